//! Netlink (rtnetlink(7)): what the kernel says of links, addresses and routes. Its single messages only say that
//! something has changed; what it is now is asked for anew, so that none that was lost matters.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::NetworkEvent;
use super::snapshot::{Address, AddressState, DefaultRoute, Interface, Snapshot};

/// Groups of linux/rtnetlink.h that are listened to: links, addresses and routes of both families, and the rules that
/// choose among tables of routes.
const GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];
/// A change comes as many messages. It is over when there were none for so long,
const QUIET: Duration = Duration::from_millis(100);
/// but what has been so far is told after this time.
const LONGEST: Duration = Duration::from_millis(500);
/// The kernel answers at once.
const ANSWER: Duration = Duration::from_secs(2);
/// Rest after the system has refused to tell.
const REST: Duration = Duration::from_secs(5);
/// Most messages of one answer: a router of the internet's core has a million routes, and needs no telephone.
const MOST_MESSAGES: usize = 50_000;
/// Largest part of an answer, in bytes; the kernel sends 32 KiB at most.
const BUFFER: usize = 64 * 1024;
/// IFA_F_TEMPORARY of linux/if_addr.h, which is IFA_F_SECONDARY where IPv4 is concerned.
const TEMPORARY: AddressFlags = AddressFlags::Secondary;

/// The network now, and a task that tells of every other that it becomes.
pub(super) async fn watch(events: mpsc::Sender<NetworkEvent>) -> (Snapshot, JoinHandle<()>) {
    // Listening comes first: what changes while it is asked for is told.
    let socket = listen();
    let first = look().await;
    let task = tokio::spawn(follow(socket, first.clone(), events));
    (first, task)
}

async fn follow(socket: io::Result<AsyncFd<Socket>>, mut last: Snapshot, events: mpsc::Sender<NetworkEvent>) {
    let mut socket = match socket {
        Ok(socket) => socket,
        Err(error) => return log::warn!("changes of the network are not noticed: {error}"),
    };
    loop {
        if let Err(error) = heard(&socket).await {
            log::warn!("the network's changes are hidden for a while: {error}");
            sleep(REST).await;
            match listen() {
                Ok(anew) => socket = anew,
                Err(_) => continue,
            }
        }
        let since = Instant::now();
        while since.elapsed() < LONGEST && matches!(timeout(QUIET, heard(&socket)).await, Ok(Ok(()))) {}
        let now = look().await;
        if now != last {
            last = now.clone();
            if events.send(NetworkEvent::Changed(now)).await.is_err() {
                return;
            }
        }
    }
}

#[allow(unsafe_code)]
fn listen() -> io::Result<AsyncFd<Socket>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    for group in GROUPS {
        socket.add_membership(group)?;
    }
    socket.set_non_blocking(true)?;
    // SAFETY: the socket owns its descriptor, and nobody closes or replaces it before it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}

/// Waits until something was said, and takes all that was.
async fn heard(socket: &AsyncFd<Socket>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let mut ready = socket.readable().await?;
        let mut any = false;
        loop {
            match socket.get_ref().recv(&mut &mut buffer[..], 0) {
                Ok(_) => any = true,
                // Too much was said to be kept (ENOBUFS): that something was is enough.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => any = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        ready.clear_ready();
        if any {
            return Ok(());
        }
    }
}

/// The network now; what the kernel does not tell is missing in it.
async fn look() -> Snapshot {
    // The kernel's answer is made while it is asked: short, but not by the thread that serves calls.
    let looked = tokio::task::spawn_blocking(Snapshot::take).await;
    match looked {
        Ok(Ok(snapshot)) => snapshot,
        Ok(Err(error)) => {
            log::warn!("the system does not tell of its network: {error}");
            Snapshot::default()
        }
        Err(_) => Snapshot::default(),
    }
}

impl Snapshot {
    /// Asks the kernel. Blocks for as long as that takes.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn take() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket2::SockRef::from(&socket).set_read_timeout(Some(ANSWER))?;
        let mut interfaces = BTreeMap::new();
        ask(&socket, RouteNetlinkMessage::GetLink(LinkMessage::default()), |message| {
            if let RouteNetlinkMessage::NewLink(link) = message {
                let interface = interface(&link);
                interfaces.insert(interface.index, interface);
            }
        })?;
        ask(&socket, RouteNetlinkMessage::GetAddress(AddressMessage::default()), |message| {
            if let RouteNetlinkMessage::NewAddress(message) = message
                && let Some(interface) = interfaces.get_mut(&message.header.index)
            {
                interface.addresses.extend(address(&message));
            }
        })?;
        let (mut default_routes, mut routes_digest) = (Vec::new(), 0_u64);
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut route = RouteMessage::default();
            route.header.address_family = family;
            ask(&socket, RouteNetlinkMessage::GetRoute(route), |message| {
                if let RouteNetlinkMessage::NewRoute(route) = message {
                    // Whatever order the kernel tells them in.
                    routes_digest = routes_digest.wrapping_add(digest(&route));
                    default_routes.extend(default_route(&route));
                }
            })?;
        }
        default_routes.sort_by_key(|route| (!route.ipv4, route.metric, route.interface));
        Ok(Self { interfaces: interfaces.into_values().collect(), default_routes, routes_digest })
    }
}

/// Asks for everything of a kind.
fn ask(
    socket: &Socket,
    question: RouteNetlinkMessage,
    mut take: impl FnMut(RouteNetlinkMessage),
) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut question = NetlinkMessage::new(header, NetlinkPayload::from(question));
    question.finalize();
    let mut bytes = vec![0; question.buffer_len()];
    question.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut buffer = vec![0; BUFFER];
    let mut count = 0;
    loop {
        let len = socket.recv(&mut &mut buffer[..], 0)?;
        let mut rest = buffer.get(..len).unwrap_or_default();
        while let Some(message_len) = length(rest) {
            let (message, behind) = rest.split_at(message_len);
            rest = behind.get(message_len.next_multiple_of(4) - message_len..).unwrap_or_default();
            count += 1;
            if count > MOST_MESSAGES {
                return Ok(());
            }
            // What a newer kernel says that is not understood is passed over.
            let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message) else { continue };
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(message) => take(message),
                _ => {}
            }
        }
    }
}

/// Length of the first message, with its header, where there is a whole one.
fn length(bytes: &[u8]) -> Option<usize> {
    const HEADER: usize = 16;
    let len = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    (HEADER..=bytes.len()).contains(&len).then_some(len)
}

fn interface(link: &LinkMessage) -> Interface {
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    });
    let flags = link.header.flags;
    Interface {
        index: link.header.index,
        name: name.unwrap_or_default(),
        running: flags.contains(LinkFlags::Up | LinkFlags::Running),
        loopback: flags.contains(LinkFlags::Loopback),
        point_to_point: flags.contains(LinkFlags::Pointopoint),
        addresses: Vec::new(),
    }
}

fn address(message: &AddressMessage) -> Option<Address> {
    let (mut ip, mut local, mut flags) = (None, None, AddressFlags::empty());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(address) => ip = Some(*address),
            // On a line with one far end, the other is the far end's.
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Flags(given) => flags = *given,
            _ => {}
        }
    }
    let ip = local.or(ip)?;
    let state = match () {
        () if flags.contains(AddressFlags::Dadfailed) => AddressState::Duplicate,
        () if flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic) => {
            AddressState::Tentative
        }
        () if flags.contains(AddressFlags::Deprecated) => AddressState::Deprecated,
        () => AddressState::Preferred,
    };
    Some(Address {
        ip,
        prefix: message.header.prefix_len,
        state,
        link_local: message.header.scope == AddressScope::Link,
        temporary: ip.is_ipv6() && flags.contains(TEMPORARY),
    })
}

fn default_route(route: &RouteMessage) -> Option<DefaultRoute> {
    let header = &route.header;
    if header.destination_prefix_length != 0
        || header.table != RouteHeader::RT_TABLE_MAIN
        || header.kind != RouteType::Unicast
    {
        return None;
    }
    let (mut gateway, mut interface, mut metric) = (None, None, 0);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(ip)) => gateway = Some(IpAddr::V4(*ip)),
            RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => gateway = Some(IpAddr::V6(*ip)),
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::Priority(priority) => metric = *priority,
            // Of several ways at once, one is as good as another here.
            RouteAttribute::MultiPath(hops) => {
                interface = interface.or(hops.first().map(|hop| hop.interface_index));
            }
            _ => {}
        }
    }
    let ipv4 = header.address_family == AddressFamily::Inet;
    Some(DefaultRoute { ipv4, gateway, interface: interface?, metric })
}

/// What decides where packets go; not how old the route is.
fn digest(route: &RouteMessage) -> u64 {
    let mut hasher = DefaultHasher::new();
    let header = &route.header;
    (header.destination_prefix_length, header.source_prefix_length, header.table).hash(&mut hasher);
    for attribute in &route.attributes {
        let decides = matches!(
            attribute,
            RouteAttribute::Destination(_)
                | RouteAttribute::Source(_)
                | RouteAttribute::Gateway(_)
                | RouteAttribute::PrefSource(_)
                | RouteAttribute::Oif(_)
                | RouteAttribute::Priority(_)
                | RouteAttribute::MultiPath(_)
                | RouteAttribute::Via(_)
        );
        if decides {
            format!("{attribute:?}").hash(&mut hasher);
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_of_the_loopback_interface() {
        let snapshot = Snapshot::take().expect("an answer");
        let lo = snapshot.interfaces.iter().find(|interface| interface.loopback).expect("lo");
        assert_eq!(lo.name, "lo");
        assert!(!lo.point_to_point);
        let again = Snapshot::take().expect("an answer");
        assert_eq!(snapshot.interfaces.len(), again.interfaces.len());
    }

    #[test]
    fn cut_messages_are_none() {
        assert_eq!(length(&[]), None);
        assert_eq!(length(&20_u32.to_ne_bytes()), None);
        let mut message = vec![0; 20];
        message[..4].copy_from_slice(&20_u32.to_ne_bytes());
        assert_eq!(length(&message), Some(20));
        message[..4].copy_from_slice(&4_u32.to_ne_bytes());
        assert_eq!(length(&message), None);
    }
}
