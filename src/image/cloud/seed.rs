//! The seed of a cloud image: the disk from which cloud-init sets up an instance (its NoCloud data source). It brings
//! the agent in, so the image itself stays unchanged and boots as it does for its users.
//!
//! cloud-init reads `user-data` in its first boot and runs its commands early. They copy the agent to its path in
//! containers, and queue its unit, which systemd starts after the OS's own basic start.

use std::{fs, path::Path};

use bootrace_agent::protocol::{AGENT_PATH, IMAGE_DIGEST_PATH, OWN_NETWORK_FLAG, SERVICE_FLAG, UNIT};
use serde_json::json;

use super::super::{
    cache::{make_dir, open_up},
    error::Error,
    job::Job,
    suite::EPOCH,
    tool::Tool,
};
use crate::agent;

/// The volume label by which cloud-init finds a seed.
const LABEL: &str = "CIDATA";
/// The guest's temporary mount point of the seed.
const MOUNT: &str = "/run/bootrace-seed";
/// The directory of units that last only until the next boot.
const UNITS: &str = "/run/systemd/system";
/// [`EPOCH`] in the form of ISO 9660.
const DATE: &str = "2025010100000000";

const AGENT: &str = "agent";
const DIGEST: &str = "image-digest";

/// Writes the seed of the image with this digest to `to`. Its files are made in `dir`.
///
/// # Errors
/// When a file can't be written, or xorriso is missing or fails.
pub async fn make(job: &Job<'_>, digest: &str, dir: &Path, to: &Path) -> Result<(), Error> {
    let files = dir.join("seed");
    make_dir(&files)?;
    let digest_line = format!("{digest}\n");
    let (user_data, meta_data, unit) = (user_data(), meta_data(digest), unit());
    let contents = [
        ("user-data", user_data.as_bytes()),
        ("meta-data", meta_data.as_bytes()),
        (AGENT, agent::EXECUTABLE),
        (DIGEST, digest_line.as_bytes()),
        (UNIT, unit.as_bytes()),
    ];
    for (name, content) in contents {
        let path = files.join(name);
        fs::write(&path, content).map_err(Error::io("writing", &path))?;
    }
    let made = Tool::new("xorriso")
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .args(["-as", "mkisofs", "-quiet", "-volid", LABEL, "-rational-rock", "-joliet"])
        .args(["--set_all_file_dates", DATE, "-output"])
        .args([to, &files])
        .run(&job.cancel)
        .await;
    fs::remove_dir_all(&files).map_err(Error::io("removing", &files))?;
    made?;
    open_up(to)
}

/// `user-data` as JSON, which is YAML with unambiguous quoting. It has no network-config, so cloud-init keeps its
/// default: DHCP if there is a network card.
fn user_data() -> String {
    let install = |mode: &str, name: &str, to: &str| {
        json!(["install", "-D", "-m", mode, format!("{MOUNT}/{name}"), to])
    };
    let config = json!({
        "bootcmd": [
            ["mkdir", "-p", MOUNT],
            ["mount", "-o", "ro", format!("LABEL={LABEL}"), MOUNT],
            install("0755", AGENT, AGENT_PATH),
            install("0644", DIGEST, IMAGE_DIGEST_PATH),
            install("0644", UNIT, &format!("{UNITS}/{UNIT}")),
            ["umount", MOUNT],
            // Waiting would be a deadlock: systemd starts the unit after cloud-init's stage has finished.
            ["systemctl", "start", "--no-block", UNIT],
        ],
    });
    format!("#cloud-config\n{config:#}\n")
}

/// The unit of other images without the network, which such a system configures itself.
fn unit() -> String {
    format!(
        "[Unit]\nDescription=The agent of bootrace, parent of the workload\n\n\
         [Service]\nExecStart={AGENT_PATH} {SERVICE_FLAG} {OWN_NETWORK_FLAG}\nTasksMax=infinity\nOOMPolicy=continue\n"
    )
}

/// `meta-data` with an instance id of this image: each of its VMs boots it for the first time.
fn meta_data(digest: &str) -> String {
    let short = digest.get(..16).unwrap_or(digest);
    format!("{:#}\n", json!({ "instance-id": format!("bootrace-{short}") }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_install_the_seeds_files_at_the_paths_of_containers_and_do_not_wait() {
        let text = user_data();
        let config = text.strip_prefix("#cloud-config\n").unwrap();
        let config: serde_json::Value = serde_json::from_str(config).unwrap();
        let commands: Vec<Vec<String>> = serde_json::from_value(config["bootcmd"].clone()).unwrap();
        let installed: Vec<&[String]> =
            commands.iter().filter(|c| c[0] == "install").map(|c| &c[c.len() - 2..]).collect();
        assert_eq!(installed[0], ["/run/bootrace-seed/agent", AGENT_PATH]);
        assert_eq!(installed[1], ["/run/bootrace-seed/image-digest", IMAGE_DIGEST_PATH]);
        assert_eq!(installed[2][1], "/run/systemd/system/bootrace-agent.service");
        let last = commands.last().unwrap();
        assert_eq!(last[..], ["systemctl", "start", "--no-block", "bootrace-agent.service"]);
        assert!(unit().contains("ExecStart=/usr/lib/bootrace/agent --service --own-network\n"));
    }

    #[test]
    fn the_instance_is_named_by_the_images_digest() {
        assert_eq!(meta_data(&"ab".repeat(32)), "{\n  \"instance-id\": \"bootrace-abababababababab\"\n}\n");
    }
}
