//! Network places of a test's own: loopback addresses, and hosts behind a wire. Two tests never get the same, whether
//! they run in one process or in two, so that every program keeps its usual ports.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use nix::sched::{CloneFlags, setns};

use crate::process::{program, run};

/// Where `ip netns` keeps the names.
pub(crate) const NAMESPACES: &str = "/run/netns";
/// Most places of one kind on a machine at the same time.
const PLACES: u8 = 250;

/// A directory for lock files that all tests on the machine share.
pub(crate) fn locks() -> PathBuf {
    let directory = std::env::temp_dir().join("voipd-tests.locks");
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// A number that nobody else has until the file is closed.
pub(crate) fn number(kind: &str) -> (u8, File) {
    for number in 1..=PLACES {
        let file = File::create(locks().join(format!("{kind}-{number}"))).unwrap();
        if file.try_lock().is_ok() {
            return (number, file);
        }
    }
    panic!("all {PLACES} places of kind {kind} are taken");
}

/// A loopback address of one's own.
#[derive(Debug)]
pub struct Host {
    /// The address, in 127.0.0.0/8.
    pub address: Ipv4Addr,
    _lock: File,
}

impl Host {
    /// The next free address.
    #[allow(clippy::new_without_default, reason = "each one is another")]
    pub fn new() -> Self {
        let (number, lock) = number("loopback");
        Self { address: Ipv4Addr::new(127, 77, 0, number), _lock: lock }
    }
}

/// A command for a program in a network namespace. The program has the process id of what is started.
pub(crate) fn program_in(namespace: &str, name: impl AsRef<OsStr>) -> Command {
    let mut command = program("ip");
    command.args(["netns", "exec", namespace]).arg(name);
    command
}

/// Does something in a network namespace, such as opening a socket, which then belongs to it for good.
pub(crate) fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let place = File::open(format!("{NAMESPACES}/{namespace}")).unwrap();
    std::thread::scope(|scope| {
        let enter = || {
            setns(&place, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        scope.spawn(enter).join().unwrap()
    })
}

/// A second host in a network namespace, joined to this one by a wire (veth). For programs that do not use loopback
/// addresses, and for harm done to the wire. Needs root.
#[derive(Debug)]
pub struct Wire {
    /// This end's address.
    pub here: Ipv4Addr,
    /// The far host's address.
    pub there: Ipv4Addr,
    name: String,
    _lock: File,
}

impl Wire {
    /// Makes the far host and the wire. The addresses are of the network for benchmarks (RFC 2544): no real one.
    #[allow(clippy::new_without_default, reason = "each one is another")]
    pub fn new() -> Self {
        let (number, lock) = number("wire");
        let name = format!("voipd-{number}");
        let wire = Self {
            here: Ipv4Addr::new(198, 18, number, 1),
            there: Ipv4Addr::new(198, 18, number, 2),
            name: name.clone(),
            _lock: lock,
        };
        // A test that was killed leaves its namespace behind; the lock says that nobody uses it.
        wire.remove();
        let ip = |arguments: String| run(Command::new("ip").args(arguments.split(' ')));
        let (here, there) = (wire.here, wire.there);
        ip(format!("netns add {name}"));
        ip(format!("link add {name} type veth peer name eth0 netns {name}"));
        ip(format!("address add {here}/30 dev {name}"));
        ip(format!("link set {name} up"));
        ip(format!("-n {name} address add {there}/30 dev eth0"));
        ip(format!("-n {name} link set lo up"));
        ip(format!("-n {name} link set eth0 up"));
        ip(format!("-n {name} route add default via {here}"));
        wire
    }

    /// A command for a program on the far host.
    pub fn program(&self, name: &str) -> Command {
        program_in(&self.name, name)
    }

    /// Name of the far host.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a line of `ip` on the far host, without the word itself.
    pub fn ip(&self, line: &str) {
        run(Command::new("ip").args(["-n", &self.name]).args(line.split(' ')));
    }

    /// An address of this host that both ways lead to.
    pub fn server(&self, number: u8) -> Ipv4Addr {
        let [a, b, c, _] = self.here.octets();
        let address = Ipv4Addr::new(a, b, c, 16 + number);
        run(Command::new("ip").args(["address", "add", &format!("{address}/32"), "dev", &self.name]));
        address
    }

    /// Gives this end of the first wire another address, with a network of four around it.
    pub fn router(&self, address: Ipv4Addr) {
        run(Command::new("ip").args(["address", "add", &format!("{address}/30"), "dev", &self.name]));
    }

    /// Lays a second wire to the far host, of another network: there it is `wlan0`, up and without an address. Answers
    /// the addresses of this end and of the far one.
    pub fn second(&self) -> (Ipv4Addr, Ipv4Addr) {
        let number = self.here.octets()[2];
        let (here, there) = (Ipv4Addr::new(198, 19, number, 1), Ipv4Addr::new(198, 19, number, 2));
        let end = format!("{}w", self.name);
        let ip = |line: String| run(Command::new("ip").args(line.split(' ')));
        ip(format!("link add {end} type veth peer name wlan0 netns {}", self.name));
        ip(format!("address add {here}/30 dev {end}"));
        ip(format!("link set {end} up"));
        self.ip("link set wlan0 up");
        (here, there)
    }

    /// Names are asked of this server there, by programs started from now on.
    pub fn name_server(&self, address: Ipv4Addr) {
        let directory = self.own_files();
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("resolv.conf"), format!("nameserver {address}\n")).unwrap();
    }

    /// Files here stand in for those of the same name in `/etc` on the far host (ip-netns(8)).
    fn own_files(&self) -> PathBuf {
        PathBuf::from("/etc/netns").join(&self.name)
    }

    /// How many packets the far host has sent and received.
    pub fn packets(&self) -> (u64, u64) {
        let count = |way: &str| {
            let file = format!("/sys/class/net/{}/statistics/{way}_packets", self.name);
            fs::read_to_string(file).unwrap().trim().parse().unwrap()
        };
        (count("rx"), count("tx"))
    }

    /// Drops a share of the RTP packets (those to ports from 10000) that reach the far host, in percent; 0 heals it.
    pub fn drop_rtp(&self, percent: u32) {
        let mut rules = String::from("table inet harm\ndelete table inet harm\n");
        if percent > 0 {
            rules += &format!(
                "table inet harm {{ chain input {{ type filter hook input priority 0; \
                 udp dport >= 10000 numgen random mod 100 < {percent} drop\n }}\n }}\n"
            );
        }
        self.rules(&rules);
    }

    /// Drops what goes to odd ports from 10000 on, where RTCP goes that has a port of its own.
    pub fn drop_rtcp_ports(&self) {
        self.rules(
            "table inet harm\ndelete table inet harm\ntable inet harm { chain input { type filter hook input \
             priority 0; udp dport >= 10000 udp dport and 1 == 1 drop\n }\nchain output { type filter hook output \
             priority 0; udp dport >= 10000 udp dport and 1 == 1 drop\n }\n }\n",
        );
    }

    /// The way to the far host carries so many kbit/s from now on; what does not fit waits, three seconds at most.
    pub fn narrow(&self, kbit: u32) {
        let rate = format!("{kbit}kbit");
        let shape = ["root", "tbf", "rate", &rate, "burst", "2000", "latency", "3s"];
        run(Command::new("tc").args(["qdisc", "add", "dev", &self.name]).args(shape));
    }

    /// Bytes that wait on that narrow way now, and packets for which there was no room so far.
    pub fn waiting(&self) -> (u64, u64) {
        let shown = run(Command::new("tc").args(["-s", "-j", "qdisc", "show", "dev", &self.name]));
        let queues: serde_json::Value = serde_json::from_str(&shown).unwrap();
        let figure = |name: &str| queues[0][name].as_u64().unwrap_or_else(|| panic!("no {name} in {queues}"));
        (figure("backlog"), figure("drops"))
    }

    /// Nothing passes any more, either way: the far host's plug is pulled.
    pub fn pull(&self) {
        run(Command::new("ip").args(["link", "set", &self.name, "down"]));
    }

    fn rules(&self, rules: &str) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), rules).unwrap();
        run(self.program("nft").arg("-f").arg(file.path()));
    }

    fn remove(&self) {
        for arguments in [["link", "delete", &self.name], ["netns", "delete", &self.name]] {
            // Neither need be there.
            let _ = Command::new("ip").args(arguments).output();
        }
        let _ = fs::remove_dir_all(self.own_files());
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.remove();
    }
}
