//! What outlives a restart: accounts added over the bus, which accounts are switched on or off, chosen devices,
//! do-not-disturb, the name of this installation. One thread owns the database; everyone else has a [`Store`] that sends it
//! work.

mod accounts;
mod file;
mod friends;
mod leases;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use rusqlite::{Connection, ErrorCode, params};
use tokio::sync::oneshot;
use voipd_agent::AccountSettings;
use voipd_nat::mapping::Lease;
use voipd_sip::digest::Secret;

use crate::api::DeviceRole;

pub use friends::Friends;

/// What the store held when it was opened.
#[derive(Debug, Default)]
pub struct Contents {
    /// Accounts added over the bus, by name.
    pub accounts: Vec<AccountSettings>,
    /// Accounts that are kept but make no sense to this version: name and what is wrong, without secrets.
    pub unreadable: Vec<(String, String)>,
    /// Accounts of any origin that were switched on or off.
    pub enabled: BTreeMap<String, bool>,
    /// Chosen devices.
    pub devices: Devices,
    /// What was set of devices: role, the name that was chosen, settings as they were written.
    pub device_settings: Vec<(DeviceRole, String, String)>,
    /// Whether inbound calls are refused.
    pub do_not_disturb: bool,
    /// What names this installation to registrars, `urn:uuid:…`; `None` before the first [`Store::set_instance`].
    pub instance: Option<String>,
    /// What the accounts' Contacts are made of; `None` before the first [`Store::set_contact_key`].
    pub contact_key: Option<Secret>,
    /// Port mappings that routers keep until they are removed.
    pub port_mappings: Vec<Lease>,
    /// Friends and invitations.
    pub friends: Friends,
    /// What a meeting point names dialogs with; `None` before the first [`Store::set_meeting_key`].
    pub meeting_key: Option<Secret>,
}

/// Devices that were chosen; `None` leaves the choice to the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// The microphone.
    pub input: Option<String>,
    /// Where calls are heard.
    pub output: Option<String>,
    /// Where ringing is heard.
    pub ringer: Option<String>,
}

/// Why the store does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory or the file cannot be made or made private.
    #[error("cannot keep {} private to voipd: {reason}", path.display())]
    Place {
        /// Which one.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// Another process holds the database.
    #[error("{} is in use: stop the other voipd, or name another state directory", .0.display())]
    InUse(PathBuf),
    /// The file is damaged, or no database.
    #[error("{} is damaged ({reason}): move it away and start again; accounts added with voipctl are lost", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// SQLite's words.
        reason: String,
    },
    /// A newer voipd wrote the file.
    #[error(
        "{} was written by a newer voipd (format {found}, this one knows {known}): install that version again, \
         or move the file away",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format of this version.
        known: u32,
    },
    /// A change could not be written.
    #[error("the store cannot be written: {0}; make room on its disk and try again")]
    Write(String),
    /// The owner thread is gone.
    #[error("the store is closed")]
    Closed,
}

/// Work for the owner thread.
type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle to the database. Changes are made in the order of the calls; each is on disk when its future is
/// ready. Dropping the last handle waits for those that are under way.
#[derive(Debug)]
pub struct Store {
    /// Both `None` only while being dropped.
    jobs: Option<mpsc::Sender<Job>>,
    owner: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens the store in a directory of its own, making both if need be. Blocks; call it before anything runs.
    pub fn open(directory: &Path) -> Result<(Self, Contents), StoreError> {
        let path = file::prepare(directory)?;
        let (mut connection, contents) = file::open(&path)?;
        let (jobs, work) = mpsc::channel::<Job>();
        let run = move || {
            while let Ok(job) = work.recv() {
                job(&mut connection);
            }
        };
        let owner = std::thread::Builder::new()
            .name("voipd-store".to_owned())
            .spawn(run)
            .map_err(|error| StoreError::Place { path, reason: error.to_string() })?;
        Ok((Self { jobs: Some(jobs), owner: Some(owner) }, contents))
    }

    /// Keeps an account, in place of one with the same name.
    pub fn put_account(&self, settings: AccountSettings) -> Change {
        self.change(move |connection| accounts::put(connection, &settings))
    }

    /// Forgets an account and whether it was switched on. Does nothing when there is none.
    pub fn remove_account(&self, name: String) -> Change {
        self.change(move |connection| {
            let change = connection.transaction()?;
            change.execute("DELETE FROM account WHERE name = ?1", [&name])?;
            change.execute("DELETE FROM enabled WHERE account = ?1", [&name])?;
            change.commit()
        })
    }

    /// Keeps whether an account, of any origin, is switched on.
    pub fn set_enabled(&self, account: String, enabled: bool) -> Change {
        let sql = "INSERT INTO enabled (account, enabled) VALUES (?1, ?2) \
                   ON CONFLICT (account) DO UPDATE SET enabled = excluded.enabled";
        self.change(move |connection| connection.execute(sql, params![account, enabled]).map(drop))
    }

    /// Keeps the choice of a device.
    pub fn set_device(&self, role: DeviceRole, name: String) -> Change {
        self.set(role_key(role), name)
    }

    /// Keeps what is set of a device.
    pub fn set_device_settings(&self, role: DeviceRole, name: &str, settings: String) -> Change {
        self.set(format!("{SETTINGS_OF}{} {name}", role_key(role)), settings)
    }

    /// Keeps whether inbound calls are refused.
    pub fn set_do_not_disturb(&self, on: bool) -> Change {
        self.set(DO_NOT_DISTURB, if on { "yes" } else { "no" }.to_owned())
    }

    /// Keeps what names this installation.
    pub fn set_instance(&self, urn: String) -> Change {
        self.set(INSTANCE, urn)
    }

    /// Keeps what the accounts' Contacts are made of.
    pub fn set_contact_key(&self, key: &str) -> Change {
        self.set(CONTACT_KEY, key.to_owned())
    }

    /// Keeps what a meeting point names dialogs with.
    pub fn set_meeting_key(&self, key: &str) -> Change {
        self.set(MEETING_KEY, key.to_owned())
    }

    /// Keeps which port mappings routers will not forget by themselves.
    pub fn set_port_mappings(&self, leases: &[Lease]) -> Change {
        self.set(PORT_MAPPINGS, leases::write(leases))
    }

    fn set(&self, key: impl Into<String>, value: String) -> Change {
        let key = key.into();
        let sql = "INSERT INTO setting (key, value) VALUES (?1, ?2) \
                   ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.change(move |connection| connection.execute(sql, params![key, value]).map(drop))
    }

    fn change(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<()> + Send + 'static) -> Change {
        let (done, result) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Nobody waits any more when the driver is stopping; the change is made all the same.
            let _ = done.send(work(connection).map_err(|error| StoreError::Write(error.to_string())));
        });
        // Without an owner the job is dropped, and `done` with it: the change answers that the store is closed.
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
        Change { result }
    }
}

/// Waits until all changes are on disk, and closes the database.
impl Drop for Store {
    fn drop(&mut self) {
        self.jobs = None;
        if self.owner.take().is_some_and(|owner| owner.join().is_err()) {
            log::error!("the store's thread has panicked");
        }
    }
}

/// A change on its way to the disk. It is made whether or not anyone waits for it.
#[derive(Debug)]
#[must_use = "a change can fail"]
pub struct Change {
    result: oneshot::Receiver<Result<(), StoreError>>,
}

impl Future for Change {
    type Output = Result<(), StoreError>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.result).poll(context).map(|result| result.unwrap_or(Err(StoreError::Closed)))
    }
}

const DO_NOT_DISTURB: &str = "do-not-disturb";
const INSTANCE: &str = "instance";
const CONTACT_KEY: &str = "contact-key";
const MEETING_KEY: &str = "meeting-key";
/// Before the role and the name of a device.
const SETTINGS_OF: &str = "settings of ";
const PORT_MAPPINGS: &str = "port-mappings";

fn role_key(role: DeviceRole) -> &'static str {
    match role {
        DeviceRole::Input => "input",
        DeviceRole::Output => "output",
        DeviceRole::Ringer => "ringer",
    }
}

/// Everything at once.
fn contents(connection: &Connection) -> rusqlite::Result<Contents> {
    let (accounts, unreadable) = accounts::all(connection)?;
    let enabled = connection
        .prepare("SELECT account, enabled FROM enabled")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut settings = connection
        .prepare("SELECT key, value FROM setting")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<BTreeMap<String, String>>>()?;
    let mut device = |role| settings.remove(role_key(role));
    let devices = Devices {
        input: device(DeviceRole::Input),
        output: device(DeviceRole::Output),
        ringer: device(DeviceRole::Ringer),
    };
    let do_not_disturb = settings.get(DO_NOT_DISTURB).is_some_and(|value| value == "yes");
    let instance = settings.remove(INSTANCE);
    let contact_key = settings.remove(CONTACT_KEY).map(Secret::new);
    let meeting_key = settings.remove(MEETING_KEY).map(Secret::new);
    let friends = friends::all(connection)?;
    let port_mappings = settings.remove(PORT_MAPPINGS).map(|text| leases::read(&text)).unwrap_or_default();
    let device_settings = settings.into_iter().filter_map(device_settings).collect();
    Ok(Contents {
        accounts,
        unreadable,
        enabled,
        devices,
        device_settings,
        do_not_disturb,
        instance,
        contact_key,
        meeting_key,
        friends,
        port_mappings,
    })
}

fn device_settings((key, text): (String, String)) -> Option<(DeviceRole, String, String)> {
    let (role, name) = key.strip_prefix(SETTINGS_OF)?.split_once(' ')?;
    let roles = [DeviceRole::Input, DeviceRole::Output, DeviceRole::Ringer];
    let role = roles.into_iter().find(|known| role_key(*known) == role)?;
    Some((role, name.to_owned(), text))
}

/// What went wrong on opening `path`.
fn opening(path: &Path) -> impl Fn(rusqlite::Error) -> StoreError {
    move |error| {
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::InUse(path),
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure,
            ) => StoreError::Place { path, reason: error.to_string() },
            _ => StoreError::Damaged { path, reason: error.to_string() },
        }
    }
}
