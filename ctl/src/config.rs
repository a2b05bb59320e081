//! `voipctl config`: the configuration file, which voipd alone can judge.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::daemon::{Bus, Daemon, Found};
use crate::exit::{Exit, Failure};

/// Lets voipd read a file, and ends as it ends. Defaults differ from bus to bus.
pub(crate) async fn check(choice: Option<Bus>, file: Option<&Path>) -> Result<u8, Failure> {
    let bus = match choice {
        Some(bus) => bus,
        None => meant().await,
    };
    let voipd = find_voipd();
    let status = command(&voipd, bus, file).status().map_err(|error| not_run(&voipd, &error))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(Exit::Failed.code()))
}

/// The bus of the voipd that runs, else of the one that this user would start.
async fn meant() -> Bus {
    for bus in [Bus::Session, Bus::System] {
        if let Found::Daemon(_) = Daemon::look(bus).await {
            return bus;
        }
    }
    Bus::own()
}

/// Whether voipd could start on a bus with the file that it reads there, and its first words about that.
pub(crate) fn read(bus: Bus) -> Result<(bool, String), Failure> {
    let voipd = find_voipd();
    let output = command(&voipd, bus, None).output().map_err(|error| not_run(&voipd, &error))?;
    let said = if output.status.success() { output.stdout } else { output.stderr };
    let said = String::from_utf8_lossy(&said);
    let first = said.lines().next().unwrap_or_default();
    Ok((output.status.success(), first.trim_start_matches("voipd: ").to_owned()))
}

fn command(voipd: &Path, bus: Bus, file: Option<&Path>) -> Command {
    let mut command = Command::new(voipd);
    command.arg(format!("--{}", bus.name())).arg("--check-config");
    if let Some(file) = file {
        command.arg("--config").arg(file);
    }
    command
}

fn not_run(voipd: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("cannot run {} to read the configuration: {error}", voipd.display()))
}

/// The voipd that was installed with this voipctl, else the one on PATH.
fn find_voipd() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|path| path.with_file_name("voipd"));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| "voipd".into())
}
