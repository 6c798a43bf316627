//! The seed of a cloud image: the disk with which cloud-init sets up an instance (its NoCloud data source), which
//! brings the agent in. So the image boots as a user of it would boot it, and nothing on it is changed beforehand.
//!
//! cloud-init reads `user-data` in its first boot and runs our commands early in it. They copy the agent to where
//! containers have it, and queue its unit, which systemd starts when the OS's own basic start is done.

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

/// By which cloud-init knows a seed, whatever disk it is.
const LABEL: &str = "CIDATA";
/// Where the guest mounts it for a moment.
const MOUNT: &str = "/run/bootrace-seed";
/// A unit of this boot alone, as is all else of an instance.
const UNITS: &str = "/run/systemd/system";
/// [`EPOCH`] as ISO 9660 has it.
const DATE: &str = "2025010100000000";

const AGENT: &str = "agent";
const DIGEST: &str = "image-digest";

/// Writes the seed of the image with that digest to `to`; `dir` is for its files.
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

/// JSON is YAML, and leaves no question of quoting. No network-config: cloud-init then does what it does by itself,
/// DHCP where there is a network card.
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
            // Waiting for it would be waiting for ourselves: systemd starts it when cloud-init has let go.
            ["systemctl", "start", "--no-block", UNIT],
        ],
    });
    format!("#cloud-config\n{config:#}\n")
}

/// As the unit of other images, but for the network, which such a system joins by itself.
fn unit() -> String {
    format!(
        "[Unit]\nDescription=The agent of bootrace, parent of the workload\n\n\
         [Service]\nExecStart={AGENT_PATH} {SERVICE_FLAG} {OWN_NETWORK_FLAG}\nTasksMax=infinity\n"
    )
}

/// Another image is another instance; each VM of this one boots it for the first time.
fn meta_data(digest: &str) -> String {
    let short = digest.get(..16).unwrap_or(digest);
    format!("{:#}\n", json!({ "instance-id": format!("bootrace-{short}") }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_install_what_the_seed_has_where_containers_have_it_and_do_not_wait() {
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
