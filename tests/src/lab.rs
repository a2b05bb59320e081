//! A place for one test: a scratch directory, addresses, and the right to use the machine's time.

use std::cell::RefCell;
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::host::{self, Host};
use crate::pace;

/// The place of one test. What it hands out lives as long as it does.
#[derive(Debug)]
pub struct Lab {
    directory: TempDir,
    hosts: RefCell<Vec<Host>>,
    _turn: File,
}

impl Lab {
    /// A place for a test that carries sound in real time: it waits until no other test runs on this machine.
    pub fn alone() -> Self {
        Self::with(true, |turn| turn.lock().unwrap())
    }

    /// A place for a test whose outcome does not depend on the machine's pace: others of this kind run beside it.
    pub fn shared() -> Self {
        Self::with(false, |turn| turn.lock_shared().unwrap())
    }

    fn with(alone: bool, wait: impl FnOnce(&File)) -> Self {
        let turn = File::create(host::locks().join("turn")).unwrap();
        wait(&turn);
        pace::begin(alone);
        let directory = tempfile::Builder::new().prefix("voipd-test.").tempdir().unwrap();
        Self { directory, hosts: RefCell::default(), _turn: turn }
    }

    /// Path of a file in the scratch directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A new directory in the scratch directory.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// The scratch directory.
    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// A loopback address that nobody else uses as long as this place lives.
    pub fn address(&self) -> Ipv4Addr {
        let host = Host::new();
        let address = host.address;
        self.hosts.borrow_mut().push(host);
        address
    }
}
