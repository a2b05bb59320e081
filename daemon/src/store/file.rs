//! The database as a file: where it lies, that nobody else reads it, and which format it has.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::{Contents, StoreError, contents, opening};

const FILE: &str = "voipd.sqlite";
/// How long a stopping voipd may still hold the file.
const PATIENCE: Duration = Duration::from_secs(2);

/// Each step of the format; `user_version` counts those that are done. Steps are added, never changed.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE account (
        name TEXT NOT NULL PRIMARY KEY,
        kind TEXT NOT NULL,
        address TEXT,
        display_name TEXT,
        registrar TEXT,
        outbound_proxy TEXT,
        auth_user TEXT,
        password TEXT,
        realm TEXT,
        register INTEGER NOT NULL,
        expires INTEGER NOT NULL,
        codecs TEXT NOT NULL,
        ptime INTEGER NOT NULL,
        enabled INTEGER NOT NULL,
        allow_from TEXT NOT NULL
    ) STRICT;
    CREATE TABLE enabled (account TEXT NOT NULL PRIMARY KEY, enabled INTEGER NOT NULL) STRICT;
    CREATE TABLE setting (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) STRICT;
",
    "
    ALTER TABLE account ADD COLUMN allow_md5 INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE account ADD COLUMN push_provider TEXT;
    ALTER TABLE account ADD COLUMN push_prid TEXT;
    ALTER TABLE account ADD COLUMN push_param TEXT;
    ALTER TABLE account ADD COLUMN gruu INTEGER NOT NULL DEFAULT 0;
",
    "
    ALTER TABLE account ADD COLUMN country TEXT;
    ALTER TABLE account ADD COLUMN area TEXT;
    ALTER TABLE account ADD COLUMN trunk_prefix TEXT;
    ALTER TABLE account ADD COLUMN international_prefix TEXT;
    ALTER TABLE account ADD COLUMN outside_prefix TEXT;
    ALTER TABLE account ADD COLUMN local_digits INTEGER;
    ALTER TABLE account ADD COLUMN rewrite TEXT;
    ALTER TABLE account ADD COLUMN number_format TEXT;
    ALTER TABLE account ADD COLUMN number_uri TEXT;
    ALTER TABLE account ADD COLUMN emergency TEXT;
    ALTER TABLE account ADD COLUMN blocked TEXT;
 ",
    "
    ALTER TABLE account ADD COLUMN redirect TEXT;
    ALTER TABLE account ADD COLUMN dtmf TEXT;
 ",
    "
    ALTER TABLE account ADD COLUMN transport TEXT;
    ALTER TABLE account ADD COLUMN tls_ca TEXT;
    ALTER TABLE account ADD COLUMN tls_pin TEXT;
    ALTER TABLE account ADD COLUMN tls_certificate TEXT;
    ALTER TABLE account ADD COLUMN tls_key TEXT;
",
    "
    ALTER TABLE account ADD COLUMN ice TEXT;
    ALTER TABLE account ADD COLUMN stun TEXT;
    ALTER TABLE account ADD COLUMN relays TEXT;
    ALTER TABLE account ADD COLUMN relay_user TEXT;
    ALTER TABLE account ADD COLUMN relay_password TEXT;
",
    "
    ALTER TABLE account ADD COLUMN contact TEXT;
",
    "
    CREATE TABLE friend (user TEXT NOT NULL PRIMARY KEY, member TEXT NOT NULL, hash TEXT NOT NULL) STRICT;
    CREATE TABLE invitation (member TEXT NOT NULL PRIMARY KEY, key TEXT NOT NULL, expires INTEGER NOT NULL) STRICT;
    CREATE TABLE joined (account TEXT NOT NULL PRIMARY KEY) STRICT;
",
    "
    CREATE TABLE contact (one TEXT NOT NULL, other TEXT NOT NULL, PRIMARY KEY (one, other)) STRICT;
",
    "
    ALTER TABLE account ADD COLUMN redundancy INTEGER NOT NULL DEFAULT 1;
",
    "
    ALTER TABLE account ADD COLUMN silence_suppression INTEGER NOT NULL DEFAULT 0;
",
    // Which accounts an invitation made: nobody asked.
    "
    DROP TABLE joined;
",
];

/// Makes the directory and the file if need be, both for this user alone, before anything is written.
pub(super) fn prepare(directory: &Path) -> Result<PathBuf, StoreError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| StoreError::Place { path, reason: words(&error) }
    };
    private_directory(directory).map_err(at(directory))?;
    let path = directory.join(FILE);
    private_file(&path).map_err(at(&path))?;
    Ok(path)
}

/// The system's words, and what to do where it forbids it.
fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!(
                "{error}: it must belong to the user who runs voipd; to run your own, use `voipd --session`"
            )
        }
        _ => error.to_string(),
    }
}

fn private_directory(directory: &Path) -> io::Result<()> {
    if let Some(parent) = directory.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    let mode = std::fs::metadata(directory)?.mode();
    // /tmp and its like: closing it would shut out everyone else.
    if mode & 0o1000 != 0 {
        return Err(io::Error::other(
            "the directory is shared with other users: name one that is voipd's own",
        ));
    }
    if mode & 0o077 != 0 {
        std::fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

fn private_file(path: &Path) -> io::Result<()> {
    let file: File = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    // SQLite gives its rollback journal the mode of the database.
    file.set_permissions(Permissions::from_mode(0o600))
}

/// Opens the file for this process alone, brings its format up to date and reads it.
pub(super) fn open(path: &Path) -> Result<(Connection, Contents), StoreError> {
    let wrong = opening(path);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(&wrong)?;
    connection.busy_timeout(PATIENCE).map_err(&wrong)?;
    // Exclusive: the lock taken below is kept, so that no second daemon writes behind this one's back.
    // secure_delete, journal_size_limit: a password that was removed stays neither in a free page nor in the journal.
    let settings = "PRAGMA locking_mode = EXCLUSIVE; PRAGMA secure_delete = ON; PRAGMA journal_size_limit = 0; \
                    PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF;";
    connection.execute_batch(settings).map_err(&wrong)?;
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get(0))
        .map_err(&wrong)?;
    if mode != "delete" {
        return Err(StoreError::Damaged { path: path.to_owned(), reason: format!("journal mode {mode}") });
    }
    migrate(&mut connection, path)?;
    let check: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(&wrong)?;
    if check != "ok" {
        return Err(StoreError::Damaged { path: path.to_owned(), reason: check });
    }
    let contents = contents(&connection).map_err(&wrong)?;
    Ok((connection, contents))
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let wrong = opening(path);
    let change = connection.transaction_with_behavior(TransactionBehavior::Exclusive).map_err(&wrong)?;
    let found: u32 = change.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(&wrong)?;
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    for migration in MIGRATIONS.iter().skip(found as usize) {
        change.execute_batch(migration).map_err(&wrong)?;
    }
    if found < known {
        change.pragma_update(None, "user_version", known).map_err(&wrong)?;
    }
    change.commit().map_err(&wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Root, as whom tests may run, is refused nothing.
    #[test]
    fn who_may_not_keep_a_store_there_is_told_of_the_session() {
        let words = |kind: io::ErrorKind| words(&io::Error::from(kind));
        assert!(words(io::ErrorKind::PermissionDenied).contains("voipd --session"));
        assert!(!words(io::ErrorKind::StorageFull).contains("--session"));
    }
}
