//! Finds the daemon that runs, on the session or the system bus, without ever starting one, and reaches its objects.

use std::time::Duration;

use voipd_dbus::{
    AccountProxy, AudioProxy, CallProxy, CallStatisticsProxy, ConferenceProxy, Dict, FriendsProxy,
    ManagerProxy, NatProxy, names,
};
use zbus::names::{BusName, OwnedUniqueName};
use zbus::proxy::CacheProperties;
use zbus::{Connection, connection, fdo};

use crate::events::Events;
use crate::exit::{Exit, Failure};
use crate::objects::{Object, Snapshot};

/// The daemon answers at once; longer than this it hangs.
const ANSWER: Duration = Duration::from_secs(30);

/// One of the two buses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bus {
    Session,
    System,
}

impl Bus {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::System => "system",
        }
    }

    /// Where this user would start a voipd: root for the machine, everybody else in the session.
    pub(crate) fn own() -> Self {
        if rustix::process::geteuid().is_root() { Self::System } else { Self::Session }
    }

    /// What to do where it cannot be reached.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::Session => "run it within the session, where DBUS_SESSION_BUS_ADDRESS is set",
            Self::System => "start D-Bus: sudo systemctl start dbus",
        }
    }

    /// How voipd is started there.
    pub(crate) fn start_line(self) -> &'static str {
        match self {
            Self::Session => "systemctl --user start voipd",
            Self::System => "sudo systemctl start voipd",
        }
    }
}

/// The daemon that commands go to. It is meant by its unique name: messages to that never start a service, and never
/// reach another daemon that takes over.
#[derive(Debug)]
pub(crate) struct Daemon {
    connection: Connection,
    owner: OwnedUniqueName,
    pub(crate) bus: Bus,
}

macro_rules! proxy {
    ($self:ident, $proxy:ident, $path:expr) => {
        Ok($proxy::builder(&$self.connection)
            .destination($self.owner.clone())
            .path($path.to_owned())
            .cache_properties(CacheProperties::No)
            .build()
            .await?)
    };
}

impl Daemon {
    /// The daemon on the chosen bus, else the one that runs.
    pub(crate) async fn find(choice: Option<Bus>) -> Result<Self, Failure> {
        if let Some(bus) = choice {
            return match look(bus).await {
                Ok(Some(daemon)) => Ok(daemon),
                Ok(None) => {
                    let sentence = format!(
                        "voipd does not run on the {} bus. Start it: {}",
                        bus.name(),
                        bus.start_line()
                    );
                    Err(Failure::new(Exit::NoDaemon, sentence))
                }
                Err(error) => {
                    let sentence =
                        format!("the {} bus cannot be reached: {error}; {}", bus.name(), bus.remedy());
                    Err(Failure::new(Exit::NoDaemon, sentence))
                }
            };
        }
        // Without a choice, a bus that cannot be reached is a bus without voipd.
        let session = look(Bus::Session).await.ok().flatten();
        let system = look(Bus::System).await.ok().flatten();
        match (session, system) {
            (Some(daemon), None) | (None, Some(daemon)) => Ok(daemon),
            (Some(_), Some(_)) => Err(Failure::new(
                Exit::NoDaemon,
                "voipd runs both on the session bus and on the system bus: say --session or --system.",
            )),
            (None, None) => Err(Failure::new(
                Exit::NoDaemon,
                format!(
                    "voipd does not run. Start it for this session: {}, or for the whole machine: {}",
                    Bus::Session.start_line(),
                    Bus::System.start_line()
                ),
            )),
        }
    }

    /// Who is on a bus, without any judgement.
    pub(crate) async fn look(bus: Bus) -> Found {
        match look(bus).await {
            Ok(Some(daemon)) => Found::Daemon(daemon),
            Ok(None) => Found::Nobody,
            Err(error) => Found::NoBus(error.to_string()),
        }
    }

    pub(crate) async fn manager(&self) -> Result<ManagerProxy<'static>, Failure> {
        proxy!(self, ManagerProxy, names::ROOT_PATH)
    }

    pub(crate) async fn audio(&self) -> Result<AudioProxy<'static>, Failure> {
        proxy!(self, AudioProxy, names::AUDIO_PATH)
    }

    pub(crate) async fn nat(&self) -> Result<NatProxy<'static>, Failure> {
        proxy!(self, NatProxy, names::NAT_PATH)
    }

    pub(crate) async fn friends(&self) -> Result<FriendsProxy<'static>, Failure> {
        proxy!(self, FriendsProxy, names::FRIENDS_PATH)
    }

    pub(crate) async fn account(&self, path: &str) -> Result<AccountProxy<'static>, Failure> {
        proxy!(self, AccountProxy, path)
    }

    pub(crate) async fn call(&self, path: &str) -> Result<CallProxy<'static>, Failure> {
        proxy!(self, CallProxy, path)
    }

    pub(crate) async fn conference(&self, path: &str) -> Result<ConferenceProxy<'static>, Failure> {
        proxy!(self, ConferenceProxy, path)
    }

    pub(crate) async fn statistics(&self, path: &str) -> Result<CallStatisticsProxy<'static>, Failure> {
        proxy!(self, CallStatisticsProxy, path)
    }

    /// All properties of an interface.
    pub(crate) async fn properties(&self, path: &str, interface: &str) -> Result<Dict, voipd_dbus::Error> {
        let reply = self
            .connection
            .call_method(
                Some(BusName::from(self.owner.inner())),
                path,
                Some("org.freedesktop.DBus.Properties"),
                "GetAll",
                &(interface),
            )
            .await?;
        Ok(reply.body().deserialize()?)
    }

    /// All accounts and calls at one instant.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, Failure> {
        let manager = fdo::ObjectManagerProxy::builder(&self.connection)
            .destination(self.owner.clone())
            .path(names::ROOT_PATH)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        Ok(Snapshot::new(manager.get_managed_objects().await?))
    }

    /// Adds to accounts what only they themselves tell: when the next try to register is made.
    pub(crate) async fn add_retries(&self, accounts: &mut [Object]) -> Result<(), Failure> {
        for account in accounts {
            match self.account(&account.path).await?.retry_in().await.map_err(voipd_dbus::Error::from) {
                Ok(seconds) => drop(account.properties.insert("RetryIn".into(), seconds.into())),
                // It was removed in between.
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Everything that the daemon tells from now on.
    pub(crate) async fn events(&self) -> Result<Events, Failure> {
        Ok(Events::subscribe(&self.connection, &self.owner).await?)
    }
}

/// What there is on a bus.
#[derive(Debug)]
pub(crate) enum Found {
    Daemon(Daemon),
    Nobody,
    /// The bus cannot be reached, and why.
    NoBus(String),
}

/// The daemon on a bus, if it runs there. Asking who owns a name starts nothing.
async fn look(bus: Bus) -> zbus::Result<Option<Daemon>> {
    let builder = match bus {
        Bus::Session => connection::Builder::session(),
        Bus::System => connection::Builder::system(),
    };
    let connection = builder.method_timeout(ANSWER).build().await?;
    let names = fdo::DBusProxy::new(&connection).await?;
    match names.get_name_owner(BusName::try_from(names::BUS_NAME)?).await {
        Ok(owner) => Ok(Some(Daemon { connection, owner, bus })),
        Err(fdo::Error::NameHasNoOwner(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
