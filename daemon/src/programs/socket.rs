//! Sockets with a name, for tools that cannot be handed a descriptor.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use crate::config::Scope;

/// Where sockets of calls are made: a folder for this user alone below the runtime directory.
#[must_use]
pub fn directory(scope: Scope) -> Option<PathBuf> {
    // systemd separates several directories by colons; ours is the first.
    let given = std::env::var_os("RUNTIME_DIRECTORY").and_then(|given| std::env::split_paths(&given).next());
    let of_session =
        || std::env::var_os("XDG_RUNTIME_DIR").map(|runtime| PathBuf::from(runtime).join("voipd"));
    let runtime = given.or_else(|| match scope {
        Scope::System => Some(PathBuf::from("/run/voipd")),
        Scope::Session => of_session(),
    });
    runtime.filter(|path| path.is_absolute()).map(|path| path.join("audio"))
}

/// A socket file that is removed with this.
pub(super) struct NamedSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl NamedSocket {
    /// Makes the folder, too. Nobody but this user, and root, can connect.
    pub(super) fn bind(directory: &Path, name: &str) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        // It may have been there before, with other rights.
        fs::set_permissions(directory, Permissions::from_mode(0o700))?;
        let path = directory.join(name);
        // What a killed daemon has left behind.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = Self { listener: UnixListener::bind(&path)?, path };
        fs::set_permissions(&socket.path, Permissions::from_mode(0o600))?;
        Ok(socket)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The first who connects.
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        let (stream, _) = self.listener.accept().await?;
        Ok(stream)
    }
}

impl Drop for NamedSocket {
    fn drop(&mut self) {
        // It may be gone with its whole directory.
        let _ = fs::remove_file(&self.path);
    }
}
