//! A message bus of a test's own.

use std::path::{Path, PathBuf};

use zbus::Connection;

use crate::process::{Process, program};
use crate::{SOON, until};

/// A private bus that stands in for the session bus.
#[derive(Debug)]
pub struct Bus {
    socket: PathBuf,
    daemon: Process,
}

impl Bus {
    /// Starts a bus whose files lie in `directory`.
    pub async fn start(directory: &Path) -> Self {
        let socket = directory.join("bus");
        let configuration = directory.join("bus.conf");
        // No service directories: nothing that happens to be installed is activated.
        let text = format!(
            r#"<busconfig>
  <type>session</type>
  <listen>unix:path={}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#,
            socket.display()
        );
        std::fs::write(&configuration, text).unwrap();
        let mut command = program("dbus-daemon");
        command.arg("--nofork").arg("--nopidfile").arg(format!("--config-file={}", configuration.display()));
        let daemon = Process::start("dbus-daemon", command, &directory.join("bus.log"));
        let bus = Self { socket, daemon };
        // The socket's file is there before anybody listens at it.
        let listens = async || std::os::unix::net::UnixStream::connect(&bus.socket).ok().map(drop);
        until("the bus opens its socket", SOON, listens).await;
        bus
    }

    /// Its address, for `DBUS_SESSION_BUS_ADDRESS`.
    pub fn address(&self) -> String {
        format!("unix:path={}", self.socket.display())
    }

    /// Ends it, as the end of a session does.
    pub fn cut(&mut self) {
        self.daemon.cut();
    }

    /// A new connection.
    pub async fn connect(&self) -> Connection {
        zbus::connection::Builder::address(self.address().as_str()).build().await.unwrap()
    }
}
