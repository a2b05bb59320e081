//! `voipctl config`: the configuration file, which voipd alone can judge.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::daemon::Bus;
use crate::exit::{Exit, Failure};

/// Lets voipd read a file, and ends as it ends.
pub(crate) fn check(bus: Option<Bus>, file: Option<&Path>) -> Result<u8, Failure> {
    let voipd = find_voipd();
    let mut command = Command::new(&voipd);
    match bus {
        Some(Bus::Session) => drop(command.arg("--session")),
        Some(Bus::System) => drop(command.arg("--system")),
        None => {}
    }
    command.arg("--check-config");
    if let Some(file) = file {
        command.arg("--config").arg(file);
    }
    let status = command.status().map_err(|error| {
        Failure::failed(format!("cannot run {} to read the configuration: {error}", voipd.display()))
    })?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(Exit::Failed.code()))
}

/// The voipd that was installed with this voipctl, else the one on PATH.
fn find_voipd() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|path| path.with_file_name("voipd"));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| "voipd".into())
}
