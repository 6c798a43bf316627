//! The metrics: one table, which describes each metric for every output, claim and gate.
//!
//! A new metric is one entry below, and a field of the sample that it reads. The entry decides which outputs show the
//! metric; `tests/report/metrics.rs` fails where an output misses it.

use crate::sample::{Outcome, Sample};

/// The unit of a metric's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds.
    Time,
    /// Bytes.
    Size,
    /// Share of one core: 0.01 is 1 %.
    Share,
}

impl Unit {
    /// The suffix of column and field names.
    pub fn suffix(self) -> &'static str {
        match self {
            Unit::Time => "ns",
            Unit::Size => "bytes",
            Unit::Share => "share",
        }
    }
}

/// Groups of metrics; tables and charts show a group together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Start-up, its phases, and teardown.
    Time,
    /// Memory of one instance.
    Memory,
    /// CPU time, and the work command.
    Cpu,
    /// Disk space and copy-on-write.
    Disk,
    /// One more instance among many.
    Density,
}

impl Group {
    /// Every group, in the order of outputs.
    pub const ALL: [Group; 5] = [Group::Time, Group::Memory, Group::Cpu, Group::Disk, Group::Density];

    /// Its heading in outputs.
    pub fn title(self) -> &'static str {
        match self {
            Group::Time => "Time",
            Group::Memory => "Memory",
            Group::Cpu => "CPU and work",
            Group::Disk => "Disk and copy-on-write",
            Group::Density => "Density: one more instance",
        }
    }
}

/// The part of a scenario that a metric needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Every scenario measures it.
    Nothing,
    /// A work command: `workload.work`.
    Work,
    /// A file for copy-on-write: `[cow]`.
    Cow,
    /// An idle window: `sampling.idle` above zero.
    Idle,
    /// A target of kind `native`.
    Native,
    /// A density run: `[density]`.
    Density,
    /// `[density]` and an idle window.
    DensityIdle,
}

/// The outputs that show a metric's ratio to the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ratio {
    /// None: the value has no counterpart in another target.
    Nowhere,
    /// The page's table of all figures.
    Page,
    /// The page, the terminal's table and Markdown.
    Everywhere,
}

/// How the terminal's table shows a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// Not at all.
    Hidden,
    /// The median alone, indented by this many steps.
    Median(usize),
    /// The median with its confidence interval, indented by this many steps.
    Interval(usize),
}

/// The source of a metric's value.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// A function of the sample, in the metric's unit; `None` where the target can't give it.
    Sample(fn(&Sample) -> Option<f64>),
    /// The sample's footprint less that of the baseline's sample of the same round.
    PairedFootprint,
    /// The readings of a target that the run fills with instances.
    Density(DensityFigure),
}

/// Which cost of one more instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DensityFigure {
    /// Memory footprint, in bytes.
    Memory,
    /// Idle CPU, as a share of one core.
    Cpu,
    /// Growth of start-up, in ns.
    Startup,
}

/// The description of one metric.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The metric that this row describes.
    pub metric: Metric,
    /// Its id in claims, gates, results and exports.
    pub name: &'static str,
    /// Its name in tables, charts and pages, the same everywhere.
    pub label: &'static str,
    /// Unit of its values.
    pub unit: Unit,
    /// Group that outputs show it in.
    pub group: Group,
    /// Its definition, for the page and the reference: sentences.
    pub meaning: &'static str,
    /// Part of a scenario without which it has no value.
    pub needs: Needs,
    /// Whether it is a difference: outputs show its sign, and no ratio of two of them.
    pub signed: bool,
    /// Outputs that show its ratio to the baseline.
    pub ratio: Ratio,
    /// Whether QEMU's emulation of a processor (TCG) changes it.
    pub emulation_changes_it: bool,
    /// How the terminal's table shows it.
    pub terminal: Terminal,
    /// Whether the page's table of raw samples has a column for it.
    pub in_raw_table: bool,
    /// The line below its title in its group's chart; `None`: the chart has no panel for it.
    pub panel: Option<&'static str>,
    /// Title and unit of its reciprocal, a rate; exports for benchmark tools include the metrics that have one.
    pub rate: Option<(&'static str, &'static str)>,
    /// Where its value comes from.
    pub source: Source,
}

/// The values that most rows share.
const ROW: Row = Row {
    metric: Metric::Startup,
    name: "",
    label: "",
    unit: Unit::Time,
    group: Group::Time,
    meaning: "",
    needs: Needs::Nothing,
    signed: false,
    ratio: Ratio::Page,
    emulation_changes_it: true,
    terminal: Terminal::Hidden,
    in_raw_table: false,
    panel: None,
    rate: None,
    source: Source::PairedFootprint,
};

fn as_float(value: Option<u64>) -> Option<f64> {
    value.map(|value| value as f64)
}

/// Declares [`Metric`] and [`TABLE`] together: an entry is a variant and its row. Its first five
/// fields are mandatory; those that it leaves out are as in [`ROW`].
macro_rules! metrics {
    ($($(#[$doc:meta])* $variant:ident {
        name: $name:literal,
        label: $label:literal,
        unit: $unit:expr,
        group: $group:expr,
        meaning: $meaning:literal,
        $($field:tt)*
    })*) => {
        /// One figure of an instance, or of a target that a run fills with instances (density). [`Row::meaning`] defines each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Metric {
            $($(#[$doc])* $variant,)*
        }

        const COUNT: usize = [$(Metric::$variant),*].len();

        /// A row for each metric, in the order in which outputs show them.
        pub const TABLE: [Row; COUNT] = [$(Row {
            metric: Metric::$variant,
            name: $name,
            label: $label,
            unit: $unit,
            group: $group,
            meaning: $meaning,
            $($field)*
            ..ROW
        }),*];
    };
}

metrics! {
    /// `startup`: requested until ready.
    Startup {
        name: "startup",
        label: "start-up",
        unit: Unit::Time,
        group: Group::Time,
        meaning: "From just before the engine is asked to make the instance until the workload is ready. native: from before \
                  fork. docker: from before the create call, with the image at hand. libvirt: from before the instance's own \
                  disk is made.",
        ratio: Ratio::Everywhere,
        terminal: Terminal::Interval(0),
        in_raw_table: true,
        rate: Some(("start-ups one after another", "start-ups/s")),
        source: Source::Sample(|s| as_float(s.timeline_ns.startup())),
    }
    /// `startup.engine`: the engine's phase of start-up.
    Engine {
        name: "startup.engine",
        label: "engine",
        unit: Unit::Time,
        group: Group::Time,
        meaning: "The part of start-up until the engine's start call returns, or until the agent's hello if that is earlier.",
        ratio: Ratio::Nowhere,
        terminal: Terminal::Median(1),
        in_raw_table: true,
        source: Source::Sample(|s| as_float(s.timeline_ns.phases().map(|p| p.engine))),
    }
    /// `startup.boot`: from the engine's phase to the agent's hello.
    Boot {
        name: "startup.boot",
        label: "boot",
        unit: Unit::Time,
        group: Group::Time,
        meaning: "From there until the agent's hello. In a VM: firmware, kernel and initramfs. native: the new process's exec, \
                  commonly less than a millisecond. docker: 0 where the hello comes before the start call returns, as it \
                  commonly does.",
        ratio: Ratio::Nowhere,
        terminal: Terminal::Median(1),
        in_raw_table: true,
        source: Source::Sample(|s| as_float(s.timeline_ns.phases().map(|p| p.boot))),
    }
    /// `startup.firmware`: the part of a VM's boot before its kernel.
    Firmware {
        name: "startup.firmware",
        label: "firmware",
        unit: Unit::Time,
        group: Group::Time,
        meaning: "The boot phase of a VM less the guest's uptime at the agent's hello: QEMU, firmware, boot loader, and the \
                  part of the kernel that unpacks it. The five parts from here to the agent unit add up to boot.",
        ratio: Ratio::Nowhere,
        terminal: Terminal::Median(2),
        source: Source::Sample(|s| as_float(s.boot_ns.as_ref()?.firmware)),
    }
    /// `startup.kernel`: kernel start to the first program.
    Kernel {
        name: "startup.kernel",
        label: "kernel",
        unit: Unit::Time,
        group: Group::Time,
        meaning: "From the kernel's start until the initrd's first program, by the guest's clock.",
        ratio: Ratio::Nowhere,
        terminal: Terminal::Median(2),
        source: Source::Sample(|s| as_float(s.boot_ns.as_ref()?.kernel)),
    }
    /// `startup.initrd`: the initrd's part of the boot.
    Initrd {
        name: "startup.initrd",
        label: "initrd",
        unit: Unit::Time,
        group: Group::Time,
        meaning: "From there until systemd starts in the root file system, or until the agent's hello where the agent is that \
                  first program, by the guest's clock.",
        ratio: Ratio::Nowhere,
        terminal: Terminal::Median(2),
        source: Source::Sample(|s| as_float(s.boot_ns.as_ref()?.initrd)),
    }
    /// `startup.userspace`: systemd until the agent's unit.
    Userspace {
        name: "startup.userspace",
        label: "userspace",
        unit: Unit::Time,
        group: Group::Time,
        meaning: "From systemd's start until it starts the agent's unit, by the guest's clock. A container with systemd \
                  inside has this and the agent unit alone; they begin with systemd, before the engine's start call returns.",
        ratio: Ratio::Nowhere,
        terminal: Terminal::Median(2),
        source: Source::Sample(|s| as_float(s.boot_ns.as_ref()?.userspace)),
    }
    /// `startup.agent_unit`: the agent's unit until its hello.
    AgentUnit {
        name: "startup.agent_unit",
        label: "agent unit",
        unit: Unit::Time,
        group: Group::Time,
        meaning: "From the start of the agent's systemd unit until the agent's hello, by the guest's clock.",
        ratio: Ratio::Nowhere,
        terminal: Terminal::Median(2),
        source: Source::Sample(|s| as_float(s.boot_ns.as_ref()?.agent_unit)),
    }
    /// `startup.app`: hello until ready.
    App {
        name: "startup.app",
        label: "app",
        unit: Unit::Time,
        group: Group::Time,
        meaning: "From the agent's hello until ready: the workload itself. Engine, boot and app add up to start-up exactly, \
                  in each sample.",
        ratio: Ratio::Nowhere,
        terminal: Terminal::Median(1),
        in_raw_table: true,
        source: Source::Sample(|s| as_float(s.timeline_ns.phases().map(|p| p.app))),
    }
    /// `teardown`: the request to stop until nothing is left.
    Teardown {
        name: "teardown",
        label: "teardown",
        unit: Unit::Time,
        group: Group::Time,
        meaning: "From the request to stop the instance until nothing of it is left.",
        terminal: Terminal::Interval(0),
        in_raw_table: true,
        source: Source::Sample(|s| as_float(s.timeline_ns.teardown())),
    }
    /// `memory.footprint`: memory that the host gets back with the instance.
    Footprint {
        name: "memory.footprint",
        label: "memory footprint",
        unit: Unit::Size,
        group: Group::Memory,
        meaning: "What the host gets back when the instance is gone, without page cache: anonymous and shared memory (PSS) of \
                  every process that exists because of it, shim and QEMU included, and its cgroup's kernel memory.",
        terminal: Terminal::Interval(0),
        in_raw_table: true,
        panel: Some("what the host gets back, without page cache"),
        source: Source::Sample(|s| as_float(s.memory_bytes.footprint)),
    }
    /// `memory.overhead`: footprint less the baseline's.
    Overhead {
        name: "memory.overhead",
        label: "memory overhead",
        unit: Unit::Size,
        group: Group::Memory,
        meaning: "The footprint less the baseline's footprint of the same round.",
        needs: Needs::Native,
        signed: true,
        terminal: Terminal::Interval(0),
        source: Source::PairedFootprint,
    }
    /// `memory.engine`: PSS of shim or QEMU.
    EngineMemory {
        name: "memory.engine",
        label: "engine processes",
        unit: Unit::Size,
        group: Group::Memory,
        meaning: "PSS of the processes that the engine runs for this instance alone: shim or QEMU. For a VM, the guest's \
                  memory is in QEMU.",
        in_raw_table: true,
        panel: Some("shim or QEMU, with their mapped files (PSS)"),
        source: Source::Sample(|s| as_float(s.memory_bytes.engine_pss)),
    }
    /// `memory.workload`: resident set of the workload.
    Workload {
        name: "memory.workload",
        label: "workload RSS",
        unit: Unit::Size,
        group: Group::Memory,
        meaning: "Resident set of the workload, as the agent reads it inside; in a VM, the guest kernel's figure.",
        terminal: Terminal::Median(0),
        in_raw_table: true,
        panel: Some("read inside: in a VM, the guest's figure"),
        source: Source::Sample(|s| as_float(s.memory_bytes.workload_rss)),
    }
    /// `memory.cache`: page cache charged to the cgroup.
    PageCache {
        name: "memory.cache",
        label: "page cache",
        unit: Unit::Size,
        group: Group::Memory,
        meaning: "Page cache charged to the instance's cgroup. The host can drop it, so it is in no other figure.",
        ratio: Ratio::Nowhere,
        in_raw_table: true,
        panel: Some("charged to it, not in the footprint"),
        source: Source::Sample(|s| as_float(s.memory_bytes.cgroup_file)),
    }
    /// `memory.guest_cache`: page cache inside a VM.
    GuestCache {
        name: "memory.guest_cache",
        label: "guest page cache",
        unit: Unit::Size,
        group: Group::Memory,
        meaning: "Page cache of a VM's own kernel, as the guest reports it. The host can't tell it from the guest's other \
                  memory and gets it back with the VM, so it is in the footprint.",
        ratio: Ratio::Nowhere,
        source: Source::Sample(|s| as_float(s.memory_bytes.guest_cache)),
    }
    /// `memory.swap`: memory swapped out.
    Swap {
        name: "memory.swap",
        label: "in swap",
        unit: Unit::Size,
        group: Group::Memory,
        meaning: "Memory of the instance and its engine's processes that is swapped out. The host gets no memory back for it, so it \
                  is in no other figure; above 0, the instance needs more than its footprint.",
        ratio: Ratio::Nowhere,
        source: Source::Sample(|s| as_float(s.memory_bytes.swap)),
    }
    /// `memory.daemons`: growth of the engine's daemons.
    Daemons {
        name: "memory.daemons",
        label: "daemon growth",
        unit: Unit::Size,
        group: Group::Memory,
        meaning: "Growth of the engine's daemons (anonymous and shared PSS) since before the instance; it may be negative. A \
                  daemon keeps it when the instance is gone, so it is not in the footprint.",
        signed: true,
        ratio: Ratio::Nowhere,
        source: Source::Sample(|s| s.memory_bytes.daemons.map(|v| v as f64)),
    }
    /// `cpu.startup`: host CPU time of start-up.
    CpuStartup {
        name: "cpu.startup",
        label: "CPU to start",
        unit: Unit::Time,
        group: Group::Cpu,
        meaning: "CPU time that the host spends from requested to ready, the engine's daemons included.",
        ratio: Ratio::Everywhere,
        terminal: Terminal::Interval(0),
        in_raw_table: true,
        panel: Some("host CPU, engine's daemons included"),
        source: Source::Sample(|s| as_float(s.cpu_ns.startup)),
    }
    /// `cpu.idle`: host CPU share of the idle instance.
    CpuIdle {
        name: "cpu.idle",
        label: "idle CPU",
        unit: Unit::Share,
        group: Group::Cpu,
        meaning: "CPU time that the host spends on the idle instance over a window after ready, without the engine's daemons, \
                  as a share of one core.",
        needs: Needs::Idle,
        terminal: Terminal::Median(0),
        in_raw_table: true,
        panel: Some("host CPU over the idle window, of one core"),
        source: Source::Sample(|s| {
            let window = s.cpu_ns.idle_window.filter(|w| *w > 0)?;
            Some(s.cpu_ns.idle? as f64 / window as f64)
        }),
    }
    /// `work.time`: wall time of the work command.
    WorkTime {
        name: "work.time",
        label: "work time",
        unit: Unit::Time,
        group: Group::Cpu,
        meaning: "Wall time of the scenario's work command by the host's clock, once ready.",
        needs: Needs::Work,
        ratio: Ratio::Everywhere,
        terminal: Terminal::Interval(0),
        in_raw_table: true,
        panel: Some("wall time, by the host's clock"),
        rate: Some(("works one after another", "works/s")),
        source: Source::Sample(|s| as_float(s.work_ns.wall)),
    }
    /// `work.cpu`: host CPU time of the work command.
    WorkCpu {
        name: "work.cpu",
        label: "work CPU",
        unit: Unit::Time,
        group: Group::Cpu,
        meaning: "CPU time that the host spends on the instance during the work command, without the engine's daemons.",
        needs: Needs::Work,
        panel: Some("host CPU time that the work takes"),
        source: Source::Sample(|s| as_float(s.work_ns.cpu)),
    }
    /// `work.cpu_guest`: the same as the command's own kernel accounts for it.
    WorkCpuGuest {
        name: "work.cpu_guest",
        label: "work CPU, inside",
        unit: Unit::Time,
        group: Group::Cpu,
        meaning: "CPU time of the work command as its own kernel accounts for it; in a VM, the host's cost beyond it is that \
                  of virtualisation.",
        needs: Needs::Work,
        source: Source::Sample(|s| as_float(s.work_ns.cpu_guest)),
    }
    /// `disk.image`: blocks of the shared image.
    DiskImage {
        name: "disk.image",
        label: "image on disk",
        unit: Unit::Size,
        group: Group::Disk,
        meaning: "Allocated blocks of the image in the target's form: the unpacked tree, the layer in Docker's store (in \
                  containerd's also the compressed one beside it), the VM's raw base disk. Every instance shares it.",
        emulation_changes_it: false,
        terminal: Terminal::Median(0),
        panel: Some("allocated blocks, shared by all instances"),
        source: Source::Sample(|s| as_float(s.disk.as_ref()?.image_bytes)),
    }
    /// `disk.instance`: blocks of one instance alone.
    DiskInstance {
        name: "disk.instance",
        label: "instance on disk",
        unit: Unit::Size,
        group: Group::Disk,
        meaning: "Allocated blocks that exist for the instance alone, once settled: the upper and work directory of its \
                  overlay, with Docker's init layer; for a VM its qcow2 overlay, after its kernel has written its dirty \
                  pages out.",
        emulation_changes_it: false,
        terminal: Terminal::Median(0),
        panel: Some("allocated blocks that exist for it alone"),
        source: Source::Sample(|s| as_float(s.disk.as_ref()?.instance_bytes)),
    }
    /// `disk.provision`: time to make the instance's disk.
    DiskProvision {
        name: "disk.provision",
        label: "disk provisioning",
        unit: Unit::Time,
        group: Group::Disk,
        meaning: "Wall time to make the instance's own disk. docker: the create call; libvirt: the copy of an empty overlay; \
                  both are part of start-up. native: the overlay's mount, before start-up.",
        emulation_changes_it: false,
        source: Source::Sample(|s| as_float(s.disk.as_ref()?.provision_ns)),
    }
    /// `cow.first_write`: first write to a file of the image.
    CowFirstWrite {
        name: "cow.first_write",
        label: "first write",
        unit: Unit::Time,
        group: Group::Disk,
        meaning: "Wall time by the host's clock of the first write of one page to a file of the image ([cow]), from before the \
                  open until it is synced: overlayfs copies the whole file, qcow2 the clusters around the page. Whether \
                  this reads the file from the disk depends on the page cache, which warm-up rounds fill.",
        needs: Needs::Cow,
        terminal: Terminal::Median(0),
        panel: Some("one page of the image's file, to the disk"),
        source: Source::Sample(|s| as_float(Some(s.disk.as_ref()?.cow.as_ref()?.first_write_ns))),
    }
    /// `cow.rewrite`: second write to that file.
    CowRewrite {
        name: "cow.rewrite",
        label: "second write",
        unit: Unit::Time,
        group: Group::Disk,
        meaning: "The same for a second write, to another page of that file.",
        needs: Needs::Cow,
        terminal: Terminal::Median(1),
        source: Source::Sample(|s| as_float(Some(s.disk.as_ref()?.cow.as_ref()?.rewrite_ns))),
    }
    /// `cow.bytes`: growth by the first write.
    CowBytes {
        name: "cow.bytes",
        label: "bytes copied",
        unit: Unit::Size,
        group: Group::Disk,
        meaning: "Growth of the instance on disk by the first write.",
        needs: Needs::Cow,
        emulation_changes_it: false,
        terminal: Terminal::Median(1),
        panel: Some("growth of the instance by the first write"),
        source: Source::Sample(|s| s.disk.as_ref()?.cow.as_ref()?.grown_bytes.map(|v| v as f64)),
    }
    /// `density.memory`: footprint of one more instance.
    DensityMemory {
        name: "density.memory",
        label: "memory, one more",
        unit: Unit::Size,
        group: Group::Density,
        meaning: "Memory footprint that one more instance adds to those that run: the mean, with Student's interval.",
        needs: Needs::Density,
        source: Source::Density(DensityFigure::Memory),
    }
    /// `density.cpu`: idle CPU share of one more instance.
    DensityCpu {
        name: "density.cpu",
        label: "idle CPU, one more",
        unit: Unit::Share,
        group: Group::Density,
        meaning: "CPU time per idle instance among those that run, as a share of one core.",
        needs: Needs::DensityIdle,
        source: Source::Density(DensityFigure::Cpu),
    }
    /// `density.startup`: growth of start-up with each instance.
    DensityStartup {
        name: "density.startup",
        label: "start-up growth",
        unit: Unit::Time,
        group: Group::Density,
        meaning: "Growth of the next instance's start-up with each instance that runs (Theil and Sen's slope).",
        needs: Needs::Density,
        source: Source::Density(DensityFigure::Startup),
    }
}

/// Names of earlier versions; an error for one of them gives the new name.
const OLD_NAMES: [(&str, Metric); 9] = [
    ("cpu.work", Metric::WorkTime),
    ("cpu.work_host", Metric::WorkCpu),
    ("cpu.work_guest", Metric::WorkCpuGuest),
    ("startup.launch", Metric::App),
    ("startup.unit", Metric::AgentUnit),
    ("copy.make", Metric::DiskProvision),
    ("copy.first_write", Metric::CowFirstWrite),
    ("copy.rewrite", Metric::CowRewrite),
    ("copy.bytes", Metric::CowBytes),
];

impl Metric {
    /// Every metric, in the table's order.
    pub const ALL: [Metric; TABLE.len()] = {
        let mut all = [Metric::Startup; TABLE.len()];
        let mut i = 0;
        while i < all.len() {
            all[i] = TABLE[i].metric;
            i += 1;
        }
        all
    };

    /// The metrics of single instances: all except density's.
    pub fn of_instances() -> impl Iterator<Item = Metric> {
        Metric::ALL.into_iter().filter(|metric| !metric.is_of_density())
    }

    /// Its row of [`TABLE`].
    pub fn row(self) -> &'static Row {
        // A static, so that the row outlives the constant.
        static ROWS: [Row; COUNT] = TABLE;
        &ROWS[self as usize]
    }

    /// Its id in claims, gates, results and exports.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The metric with this id.
    pub fn from_name(name: &str) -> Option<Metric> {
        TABLE.iter().find(|row| row.name == name).map(|row| row.metric)
    }

    /// Unit of its values.
    pub fn unit(self) -> Unit {
        self.row().unit
    }

    /// Whether it describes a target that the run fills with instances, and not one instance.
    pub fn is_of_density(self) -> bool {
        matches!(self.row().source, Source::Density(_))
    }

    /// The sample's own value in the metric's unit; `None` where the target can't give it, and for overhead and
    /// density, which no single sample has.
    pub fn of(self, sample: &Sample) -> Option<f64> {
        match self.row().source {
            Source::Sample(read) => read(sample),
            Source::PairedFootprint | Source::Density(_) => None,
        }
    }
}

/// The error for a name that no metric has: with the nearest name, or the new name of an old one. `known` are the
/// metrics that may stand in its place.
pub fn unknown(name: &str, known: impl Iterator<Item = Metric>) -> String {
    let shown = crate::foreign::quoted(name);
    if let Some((_, metric)) = OLD_NAMES.iter().find(|(old, _)| *old == name) {
        return format!("there is no metric {shown}: it is called {} now", metric.name());
    }
    let known: Vec<&str> = known.map(Metric::name).collect();
    format!(
        "there is no metric {shown}{}: expected one of {}",
        crate::foreign::did_you_mean(name, &known),
        known.join(", ")
    )
}

/// Whether statistics use this sample: it succeeded and is no warm-up.
pub fn is_measured(sample: &Sample) -> bool {
    !sample.warmup && sample.outcome == Outcome::Ok
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_metric_is_found_by_its_own_name_and_has_words() {
        for metric in Metric::ALL {
            assert_eq!(Metric::from_name(metric.name()), Some(metric));
            let row = metric.row();
            assert!(row.meaning.ends_with('.') && !row.label.is_empty(), "{metric:?}");
        }
        assert_eq!(Metric::from_name("startup.nothing"), None);
    }

    #[test]
    fn the_reference_is_that_of_the_table() {
        use std::fmt::Write;
        let mut page = String::from(
            "# Metrics\n\nGenerated from the program's table of metrics. Times are in ns and sizes in bytes in files; a share is one of \
             a core. Claims, gates,\n`--metric` and exports use these names. *TCG*: QEMU's emulation of a processor changes it.\n",
        );
        for group in Group::ALL {
            let _ = writeln!(
                page,
                "\n## {}\n\n| metric | label | unit | needs | TCG | what it is |\n|---|---|---|---|---|---|",
                group.title()
            );
            for row in TABLE.iter().filter(|row| row.group == group) {
                let unit = match row.unit {
                    Unit::Time => "time",
                    Unit::Size => "size",
                    Unit::Share => "share",
                };
                let needs = match row.needs {
                    Needs::Nothing => "",
                    Needs::Work => "`workload.work`",
                    Needs::Cow => "`[cow]`",
                    Needs::Idle => "`sampling.idle`",
                    Needs::Native => "a native target",
                    Needs::Density => "`[density]`",
                    Needs::DensityIdle => "`[density]`, `sampling.idle`",
                };
                let tcg = if row.emulation_changes_it { "yes" } else { "no" };
                let _ = writeln!(
                    page,
                    "| `{}` | {} | {unit} | {needs} | {tcg} | {} |",
                    row.name, row.label, row.meaning
                );
            }
        }
        crate::generated::holds("docs/metrics.md", &page);
    }

    #[test]
    fn no_two_metrics_share_a_name_or_a_label() {
        for each in [|row: &Row| row.name, |row: &Row| row.label] {
            assert_eq!(TABLE.iter().map(each).collect::<BTreeSet<_>>().len(), TABLE.len());
        }
    }

    #[test]
    fn an_old_name_leads_to_the_new_one() {
        for (old, metric) in OLD_NAMES {
            assert_eq!(Metric::from_name(old), None);
            let text = unknown(old, Metric::of_instances());
            assert!(text.ends_with(&format!("it is called {} now", metric.name())), "{text}");
        }
    }
}
