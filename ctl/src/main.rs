//! The command line of voipd: one client of its D-Bus interface among others.

mod account;
mod audio;
mod call;
mod cli;
mod conference;
mod config;
mod daemon;
mod devices;
mod dial;
mod dialplan;
mod doctor;
mod events;
mod exit;
mod friends;
mod graph;
mod interrupts;
mod keys;
mod mappings;
mod monitor;
mod nat;
mod neighbours;
mod objects;
mod output;
mod pcap;
mod ports;
mod stats;
mod status;
mod text;
mod trace;
mod wait;
mod wav;

use clap::Parser;

use cli::{Cli, Command, ConfigCommand};
use daemon::Daemon;
use exit::{Exit, Failure};
use output::Output;

fn main() {
    let cli = Cli::parse();
    let code = match run(cli) {
        Ok(code) => code,
        Err(Failure { exit, sentence }) => {
            if let Some(sentence) = sentence {
                complain(&sentence);
            }
            exit.code()
        }
    };
    // Not a return: a thread that waits for a key would be waited for.
    std::process::exit(i32::from(code));
}

/// A sentence on standard error; nothing is left to do when nobody reads that.
fn complain(sentence: &str) {
    use std::io::Write;
    let lines: Vec<String> = sentence.lines().map(text::clean).collect();
    let _ = writeln!(std::io::stderr(), "voipctl: {}", lines.join("\n"));
}

fn run(cli: Cli) -> Result<u8, Failure> {
    let bus = cli.bus()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    if let Command::Config(ConfigCommand::Check { file }) = &cli.command {
        return runtime.block_on(config::check(bus, file.as_deref()));
    }
    if let Command::Doctor = &cli.command {
        return runtime.block_on(doctor::run(Output::new(cli.json), bus));
    }
    runtime.block_on(async {
        let daemon = Daemon::find(bus).await?;
        command(&daemon, Output::new(cli.json), cli.command).await
    })?;
    Ok(Exit::Ok.code())
}

async fn command(daemon: &Daemon, out: Output, command: Command) -> Result<(), Failure> {
    match command {
        Command::Status(args) => status::run(daemon, out, args).await,
        Command::Account(command) => account::run(daemon, out, command).await,
        Command::Call(args) => dial::run(daemon, out, args).await,
        Command::Calls => call::list(daemon, out).await,
        Command::Answer(args) => call::answer(daemon, args).await,
        Command::Reject(args) => call::reject(daemon, args).await,
        Command::Hangup(args) => call::hang_up(daemon, args).await,
        Command::Hold(one) => call::hold(daemon, one).await,
        Command::Resume(args) => call::resume(daemon, args).await,
        Command::Mute(one) => call::mute(daemon, one, true).await,
        Command::Unmute(one) => call::mute(daemon, one, false).await,
        Command::Silence(one) => call::silence(daemon, one).await,
        Command::Codec(args) => call::set_codec(daemon, args).await,
        Command::Dtmf(args) => call::send_dtmf(daemon, args).await,
        Command::Audio(args) => audio::run(daemon, out, args).await,
        Command::Play(args) => ports::play(daemon, args).await,
        Command::Record(args) => ports::record(daemon, args).await,
        Command::Devices(args) => devices::run(daemon, out, args.command).await,
        Command::Neighbours => neighbours::list(daemon, out).await,
        Command::Nat(args) => nat::run(daemon, out, args.command).await,
        Command::Conference { command } => conference::run(daemon, out, command).await,
        Command::Friends { command } => friends::run(daemon, out, command).await,
        Command::Stats(args) => stats::run(daemon, out, args).await,
        Command::Graph(args) => graph::run(daemon, out, args).await,
        Command::Dnd { switch } => status::do_not_disturb(daemon, out, switch).await,
        Command::DialTone { switch } => status::dial_tone(daemon, out, switch).await,
        Command::Wait(args) => wait::run(daemon, out, args).await,
        Command::Trace(args) => trace::run(daemon, out, args).await,
        Command::Monitor => monitor::run(daemon, out).await,
        // Done before: they need no daemon.
        Command::Config(_) | Command::Doctor => Ok(()),
    }
}
