//! Session descriptions: reading the peer's text into media lines, writing ours; nothing of who offered what.
//!
//! sdp-types knows the grammar (RFC 8866). Before it, [`essential_lines`] takes away what telephony does not need, so
//! that an e-mail address in Latin-1 or an odd time zone line cannot spoil a call.

use std::net::{IpAddr, SocketAddr};

use sdp_types::{Attribute, Connection, Fmtp, Media, Origin, Rtcp, RtpMap, Session};

use crate::codec::Codec;
use crate::direction::Direction;
use crate::error::{NegotiationError, printable};
use crate::format::{OpusParameters, ReceiveFormat, static_name};
use crate::ice::{self, Defaults, LocalIce, PeerIce};
use crate::negotiation::LocalMedia;
use crate::negotiation::Preferences;
use crate::redundancy::{self, Blocks};

/// Longest session description that is read, in bytes.
const MAX_BYTES: usize = 16 * 1024;
/// Most m= lines that are read.
const MAX_MEDIA_LINES: usize = 16;
/// Most formats of one m= line that are looked at; what follows is ignored.
const MAX_FORMATS: usize = 64;

/// The RTP profiles that we speak. Feedback (RFC 4585) needs nothing of us: a plain receiver may stay silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    Avp,
    Avpf,
}

impl Profile {
    fn read(protocol: &str) -> Result<Self, NegotiationError> {
        let known = [Profile::Avp, Profile::Avpf]
            .into_iter()
            .find(|profile| profile.name().eq_ignore_ascii_case(protocol));
        known.ok_or_else(|| NegotiationError::profile(protocol))
    }

    const fn name(self) -> &'static str {
        match self {
            Profile::Avp => "RTP/AVP",
            Profile::Avpf => "RTP/AVPF",
        }
    }
}

/// One m= line of the peer's.
#[derive(Clone, Debug)]
pub(crate) struct MediaLine {
    /// What a refusal repeats.
    pub(crate) header: MediaHeader,
    /// The audio stream that it describes, or why it describes none that we could use.
    pub(crate) audio: Result<RemoteAudio, NegotiationError>,
}

/// The words of an m= line without its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MediaHeader {
    media: String,
    protocol: String,
    formats: String,
}

/// An audio stream as the peer describes it.
#[derive(Clone, Debug)]
pub(crate) struct RemoteAudio {
    pub(crate) profile: Profile,
    pub(crate) rtp: SocketAddr,
    /// Where RTCP goes that is not multiplexed.
    pub(crate) rtcp: SocketAddr,
    /// RTCP may share the port of RTP (RFC 5761).
    pub(crate) rtcp_mux: bool,
    /// It speaks of extended reports (RFC 3611 section 5.1).
    pub(crate) extended_reports: bool,
    pub(crate) ice: PeerIce,
    /// Identification of the line (RFC 5888), where it can be repeated.
    pub(crate) mid: Option<String>,
    /// As the peer sees it; without ICE, an unspecified address (hold of RFC 2543) counts as not receiving.
    pub(crate) direction: Direction,
    /// In the peer's order.
    pub(crate) formats: Vec<RemoteFormat>,
    /// What the peer would like to receive, in milliseconds.
    pub(crate) ptime: Option<u16>,
    pub(crate) maxptime: Option<u16>,
    /// Most bits per second that the peer wants to receive, packet headers included.
    pub(crate) bandwidth: Option<u32>,
}

impl RemoteAudio {
    /// The codecs by name, for a message to a person.
    pub(crate) fn codec_names(&self) -> String {
        const MOST: usize = 12;
        let names =
            self.formats.iter().filter(|format| matches!(format.known, Some(ReceiveFormat::Audio(_)) | None));
        names.take(MOST).map(|format| format.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// One payload type of the peer's.
#[derive(Clone, Debug)]
pub(crate) struct RemoteFormat {
    pub(crate) payload_type: u8,
    /// Printable.
    name: String,
    /// What it is, if it is something we have.
    pub(crate) known: Option<ReceiveFormat>,
    pub(crate) opus: OpusParameters,
    /// Of redundant audio data.
    pub(crate) blocks: Blocks,
}

/// Reads a session description.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<MediaLine>, NegotiationError> {
    if bytes.len() > MAX_BYTES {
        return Err(NegotiationError::malformed(format!("longer than {MAX_BYTES} bytes")));
    }
    let text = essential_lines(bytes)?;
    let session =
        Session::parse(text.as_bytes()).map_err(|error| NegotiationError::malformed(error.to_string()))?;
    session.medias.iter().map(|media| read_media(&session, media)).collect()
}

/// The lines that matter (v=, c=, b=, m=, a=), tidied: any line end, no white space at the ends, single spaces between the
/// fields of m= and c=. The others (o=, s=, t=, …) tell us nothing, and peers leave them out or fill them freely.
fn essential_lines(bytes: &[u8]) -> Result<String, NegotiationError> {
    let text = String::from_utf8_lossy(bytes);
    let mut kept = String::with_capacity(text.len());
    let mut media_lines = 0;
    for line in text.split(['\r', '\n']) {
        let Some((key, value)) = line.trim().split_once('=') else { continue };
        let value = match key {
            "v" | "a" => value.trim().to_owned(),
            "b" if redundancy::is_bandwidth(value.trim()) => value.trim().to_owned(),
            "c" => value.split_whitespace().collect::<Vec<_>>().join(" "),
            "m" => {
                media_lines += 1;
                let mut fields: Vec<_> = value.split_whitespace().collect();
                // Some peers leave the formats out of a line that they refuse.
                if fields.len() == 3 && fields.get(1) == Some(&"0") {
                    fields.push("0");
                }
                fields.join(" ")
            }
            _ => continue,
        };
        kept.extend([key, "=", &value, "\n"]);
    }
    if media_lines > MAX_MEDIA_LINES {
        return Err(NegotiationError::malformed(format!("more than {MAX_MEDIA_LINES} media lines")));
    }
    Ok(kept)
}

fn read_media(session: &Session, media: &Media) -> Result<MediaLine, NegotiationError> {
    // These words are written back in the answer.
    let plain = |text: &str| text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if ![&media.media, &media.proto, &media.fmt].into_iter().all(|text| plain(text)) {
        return Err(NegotiationError::malformed("a media line has characters outside ASCII"));
    }
    let header =
        MediaHeader { media: media.media.clone(), protocol: media.proto.clone(), formats: media.fmt.clone() };
    Ok(MediaLine { header, audio: read_audio(session, media) })
}

fn read_audio(session: &Session, media: &Media) -> Result<RemoteAudio, NegotiationError> {
    if !media.media.eq_ignore_ascii_case("audio") || media.port == 0 {
        return Err(NegotiationError::NoAudio);
    }
    let profile = Profile::read(&media.proto)?;
    let connection = media.connections.first().or(session.connection.as_ref());
    let connection = connection.ok_or_else(|| NegotiationError::address("none is given"))?;
    let address = usable_address(&connection.connection_address)?;

    let rtp = SocketAddr::new(address, media.port);
    let rtcp = read_rtcp(media, address)?;
    let rtcp_mux = media.attributes.iter().any(|attribute| is_rtcp_mux(&attribute.attribute));
    let extended_reports =
        media.attributes.iter().any(|attribute| attribute.attribute.trim().eq_ignore_ascii_case("rtcp-xr"));
    let ice = ice::read(session, media, &Defaults { rtp, rtcp, rtcp_mux });

    let mid = media.get_first_attribute_value("mid").flatten();
    let mid = mid.and_then(ice::token).map(str::to_owned);
    let direction = direction_of(&media.attributes)
        .or_else(|| direction_of(&session.attributes))
        .unwrap_or(Direction::SendRecv);
    // RFC 3264 section 8.4: nothing is sent to an unspecified address, which was how RFC 2543 held a call. With ICE it
    // says that no candidate is known yet (RFC 8840 section 4.1.1).
    let nowhere = address.is_unspecified() && ice.offered().is_none();
    let direction = Direction::new(direction.sends(), direction.receives() && !nowhere);

    Ok(RemoteAudio {
        profile,
        rtp,
        rtcp,
        rtcp_mux,
        extended_reports,
        ice,
        mid,
        direction,
        formats: read_formats(media),
        ptime: milliseconds(media, "ptime"),
        maxptime: milliseconds(media, "maxptime"),
        bandwidth: redundancy::bandwidth(session, media),
    })
}

fn direction_of(attributes: &[Attribute]) -> Option<Direction> {
    attributes.iter().find_map(|attribute| Direction::from_attribute(attribute.attribute.trim()))
}

/// The address of c= or a=rtcp, without the time to live that may follow it. Host names and groups are refused.
fn usable_address(text: &str) -> Result<IpAddr, NegotiationError> {
    let literal = text.split_once('/').map_or(text, |(address, _)| address);
    let address: IpAddr = literal.parse().map_err(|_| NegotiationError::address(text))?;
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    if address.is_multicast() || broadcast { Err(NegotiationError::address(text)) } else { Ok(address) }
}

/// RFC 5761 section 5.1.1, and the attribute of a peer that has no other way (RFC 8858).
fn is_rtcp_mux(attribute: &str) -> bool {
    let attribute = attribute.trim();
    ["rtcp-mux", "rtcp-mux-only"].iter().any(|name| attribute.eq_ignore_ascii_case(name))
}

/// Where RTCP goes: a=rtcp (RFC 3605), or the port after RTP's (RFC 3550 section 11).
fn read_rtcp(media: &Media, address: IpAddr) -> Result<SocketAddr, NegotiationError> {
    let given = media.attributes_typed::<Rtcp>().find_map(Result::ok).filter(|rtcp| rtcp.port != 0);
    let Some(rtcp) = given else {
        return Ok(SocketAddr::new(address, media.port.checked_add(1).unwrap_or(media.port)));
    };
    let address = rtcp.connection_address.as_deref().map(usable_address).transpose()?.unwrap_or(address);
    Ok(SocketAddr::new(address, rtcp.port))
}

fn read_formats(media: &Media) -> Vec<RemoteFormat> {
    // The first a=rtpmap and a=fmtp of a number count.
    let maps: Vec<RtpMap> = media.attributes_typed().flatten().collect();
    let parameters: Vec<Fmtp> = media.attributes_typed().flatten().collect();
    let numbers = media.fmt.split(' ').take(MAX_FORMATS).filter_map(|number| number.parse::<u8>().ok());
    numbers
        // With the marker bit, 64 to 95 look like RTCP (RFC 5761 section 4).
        .filter(|number| *number < 128 && !(64..=95).contains(number))
        .map(|payload_type| {
            let map = maps.iter().find(|map| map.payload_type == payload_type);
            let name = match map {
                Some(map) => printable(map.encoding_name.trim()),
                None => {
                    static_name(payload_type).map_or_else(|| format!("type {payload_type}"), str::to_owned)
                }
            };
            let known = match map {
                Some(map) => ReceiveFormat::from_rtpmap(map).or_else(|| ReceiveFormat::from_odd_rtpmap(map)),
                None => ReceiveFormat::from_static_type(payload_type),
            };
            let opus = parameters
                .iter()
                .find(|fmtp| fmtp.fmt == payload_type && known == Some(ReceiveFormat::Audio(Codec::Opus)))
                .map(OpusParameters::from)
                .unwrap_or_default();
            let blocks = parameters
                .iter()
                .find(|fmtp| fmtp.fmt == payload_type && matches!(known, Some(ReceiveFormat::Redundant(_))))
                .map(Blocks::from)
                .unwrap_or_default();
            RemoteFormat { payload_type, name, known, opus, blocks }
        })
        .collect()
}

/// a=ptime or a=maxptime; a fraction of a millisecond is cut off.
fn milliseconds(media: &Media, name: &str) -> Option<u16> {
    let value = media.get_first_attribute_value(name)??;
    let whole = value.split('.').next()?;
    whole.trim().parse().ok().filter(|milliseconds| *milliseconds > 0)
}

/// What our audio line says of the way to it.
#[derive(Clone, Copy)]
pub(crate) struct LocalWay<'a> {
    /// Where media comes without ICE: the default candidates.
    pub(crate) media: LocalMedia,
    pub(crate) rtcp_mux: bool,
    /// Says which extended reports are spoken: in an offer, and in the answer to one that says so too.
    pub(crate) extended_reports: bool,
    pub(crate) ice: LineIce<'a>,
}

/// What an audio line of ours says about ICE.
#[derive(Clone, Copy)]
pub(crate) enum LineIce<'a> {
    Silent,
    /// The peer's address was changed on the way (RFC 8839 section 5.3).
    Mismatch,
    /// Both components are named, unless `rtcp_mux` is agreed.
    Wanted {
        ice: &'a LocalIce,
        rtcp_mux_agreed: bool,
        /// Identification of the line.
        mid: Option<&'a str>,
    },
}

/// Our audio line.
pub(crate) fn audio_line(
    way: LocalWay<'_>,
    profile: Profile,
    formats: &[(u8, ReceiveFormat)],
    preferences: &Preferences,
    direction: Direction,
) -> Media {
    let LocalWay { media: local, rtcp_mux, extended_reports, ice } = way;
    let numbers: Vec<String> = formats.iter().map(|(number, _)| number.to_string()).collect();
    let mut attributes = Vec::new();
    for (number, format) in formats {
        attributes.push(Attribute::with_value("rtpmap", format.rtpmap(*number)));
        attributes.extend(
            format
                .fmtp(formats, preferences.silence_suppression)
                .map(|fmtp| Attribute::with_value("fmtp", format!("{number} {fmtp}"))),
        );
    }
    attributes.push(Attribute::with_value("ptime", preferences.ptime_ms));
    let with_ice = matches!(ice, LineIce::Wanted { .. });
    // RFC 5761 section 5.1.3 wants the port for RTCP named beside ICE.
    if with_ice || local.rtp_port.checked_add(1) != Some(local.rtcp_port) {
        attributes.push(Attribute::with_value("rtcp", local.rtcp_port));
    }
    if rtcp_mux {
        attributes.push(Attribute::new("rtcp-mux"));
    }
    if extended_reports {
        attributes.push(Attribute::with_value("rtcp-xr", "rcvr-rtt=all voip-metrics"));
    }
    attributes.push(Attribute::new(direction.attribute()));
    match ice {
        LineIce::Silent => {}
        LineIce::Mismatch => attributes.push(Attribute::new("ice-mismatch")),
        LineIce::Wanted { ice, rtcp_mux_agreed, mid } => {
            attributes.extend(ice::attributes(ice, rtcp_mux_agreed, mid));
        }
    }
    media_line("audio", local.rtp_port, profile.name(), numbers.join(" "), attributes)
}

/// A line that is refused, or stays refused: port 0 (RFC 3264 section 6).
pub(crate) fn refused_line(header: &MediaHeader) -> Media {
    media_line(&header.media, 0, &header.protocol, header.formats.clone(), Vec::new())
}

fn media_line(media: &str, port: u16, protocol: &str, formats: String, attributes: Vec<Attribute>) -> Media {
    Media {
        media: media.to_owned(),
        port,
        num_ports: None,
        proto: protocol.to_owned(),
        fmt: formats,
        media_title: None,
        connections: Vec::new(),
        bandwidths: Vec::new(),
        key: None,
        attributes,
    }
}

/// Our session description with these media lines.
pub(crate) fn session(session_id: u64, version: u64, address: IpAddr, medias: Vec<Media>) -> Session {
    Session {
        origin: Origin::with_ip_addr(session_id, version, address),
        // RFC 8866 section 5.3: a single dash where a session has no name.
        session_name: "-".to_owned(),
        session_description: None,
        uri: None,
        emails: Vec::new(),
        phones: Vec::new(),
        connection: Some(Connection::from_ip_addr(address)),
        bandwidths: Vec::new(),
        times: Vec::new(),
        time_zones: Vec::new(),
        key: None,
        attributes: Vec::new(),
        medias,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audio(text: &str) -> Result<RemoteAudio, NegotiationError> {
        read(text.as_bytes()).map(|mut lines| lines.remove(0).audio).and_then(|audio| audio)
    }

    const C: &str = "c=IN IP4 192.0.2.1\r\n";

    #[test]
    fn the_least_that_a_peer_may_say_is_enough() {
        let stream = audio("v=0\nc=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 8 0").unwrap();
        assert_eq!(stream.rtp, "192.0.2.1:4000".parse().unwrap());
        assert_eq!(stream.rtcp, "192.0.2.1:4001".parse().unwrap());
        assert_eq!(stream.direction, Direction::SendRecv);
        let known: Vec<_> = stream.formats.iter().map(|format| format.known).collect();
        assert_eq!(known, [Codec::Pcma, Codec::Pcmu].map(|codec| Some(ReceiveFormat::Audio(codec))));
    }

    #[test]
    fn lines_that_do_not_matter_may_be_wrong() {
        let mut text =
            b"v=0 \r\no=John Doe 1 18446744073709551616 IN\r\ns=caf\xe9\r\ne=\xff\r\nt=now\r\nz=x\r\nk=\r\n"
                .to_vec();
        text.extend_from_slice(
            b"\r\nc=IN  IP4  192.0.2.1 \r\nb=AS\r\nnonsense\r\nm=audio  4000/1 RTP/AVP 0 \r\n",
        );
        assert_eq!(read(&text).unwrap().remove(0).audio.unwrap().rtp, "192.0.2.1:4000".parse().unwrap());
    }

    #[test]
    fn the_connection_of_the_media_line_wins() {
        let stream = audio(&format!("v=0\r\n{C}m=audio 4000 RTP/AVP 0\r\nc=IN IP6 2001:db8::7\r\n")).unwrap();
        assert_eq!(stream.rtp, "[2001:db8::7]:4000".parse().unwrap());
    }

    #[test]
    fn addresses_that_cannot_be_used_are_named() {
        for address in ["IP4 gw.example.com", "IP4 224.2.1.1/127", "IP6 ff15::101", "IP4 255.255.255.255"] {
            let text = format!("v=0\r\nc=IN {address}\r\nm=audio 4000 RTP/AVP 0\r\n");
            assert!(matches!(audio(&text), Err(NegotiationError::Address(_))), "{address}");
        }
        assert!(matches!(audio("v=0\r\nm=audio 4000 RTP/AVP 0\r\n"), Err(NegotiationError::Address(_))));
    }

    #[test]
    fn the_rtcp_port_may_stand_elsewhere() {
        let rtcp = |attribute: &str| {
            audio(&format!("v=0\r\n{C}m=audio 4000 RTP/AVP 0\r\na=rtcp:{attribute}\r\n"))
                .map(|audio| audio.rtcp)
        };
        assert_eq!(rtcp("53020"), Ok("192.0.2.1:53020".parse().unwrap()));
        assert_eq!(rtcp("53020 IN IP4 192.0.2.9"), Ok("192.0.2.9:53020".parse().unwrap()));
        assert_eq!(rtcp("53020 IN IP6 2001:db8::9"), Ok("[2001:db8::9]:53020".parse().unwrap()));
        assert_eq!(rtcp("rubbish"), Ok("192.0.2.1:4001".parse().unwrap()));
        assert!(matches!(rtcp("53020 IN IP4 host.example"), Err(NegotiationError::Address(_))));
        let last = audio(&format!("v=0\r\n{C}m=audio 65535 RTP/AVP 0\r\n")).unwrap();
        assert_eq!(last.rtcp.port(), 65535);
    }

    #[test]
    fn an_unspecified_address_does_not_receive() {
        for (address, attribute, direction) in [
            ("IP4 0.0.0.0", "sendrecv", Direction::SendOnly),
            ("IP4 0.0.0.0", "recvonly", Direction::Inactive),
            ("IP6 ::", "sendrecv", Direction::SendOnly),
        ] {
            let text = format!("v=0\r\nc=IN {address}\r\nm=audio 4000 RTP/AVP 0\r\na={attribute}\r\n");
            assert_eq!(audio(&text).unwrap().direction, direction);
        }
    }

    #[test]
    fn the_direction_of_the_media_line_wins() {
        let session = format!("v=0\r\n{C}a=sendonly\r\nm=audio 4000 RTP/AVP 0\r\n");
        assert_eq!(audio(&session).unwrap().direction, Direction::SendOnly);
        assert_eq!(audio(&format!("{session}a=inactive\r\n")).unwrap().direction, Direction::Inactive);
    }

    #[test]
    fn packet_times_are_read() {
        let stream =
            audio(&format!("v=0\r\n{C}m=audio 4000 RTP/AVP 0\r\na=ptime: 30\r\na=maxptime:62.5\r\n"))
                .unwrap();
        assert_eq!((stream.ptime, stream.maxptime), (Some(30), Some(62)));
        let stream =
            audio(&format!("v=0\r\n{C}m=audio 4000 RTP/AVP 0\r\na=ptime:0\r\na=maxptime\r\n")).unwrap();
        assert_eq!((stream.ptime, stream.maxptime), (None, None));
    }

    #[test]
    fn payload_types_that_look_like_rtcp_are_left_out() {
        let stream = audio(&format!("v=0\r\n{C}m=audio 4000 RTP/AVP 64 72 95 200 256 x 0\r\n")).unwrap();
        assert_eq!(stream.formats.iter().map(|format| format.payload_type).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn size_is_limited() {
        let long = format!("v=0\r\n{C}m=audio 4000 RTP/AVP 0\r\n{}", "a=x\r\n".repeat(4000));
        assert!(matches!(read(long.as_bytes()), Err(NegotiationError::Malformed(_))));
        let lines = |count| format!("v=0\r\n{C}{}", "m=audio 4000 RTP/AVP 0\r\n".repeat(count));
        assert_eq!(read(lines(16).as_bytes()).unwrap().len(), 16);
        assert!(matches!(read(lines(17).as_bytes()), Err(NegotiationError::Malformed(_))));
        let formats: String = (0..100).map(|number| format!(" {number}")).collect();
        let stream = audio(&format!("v=0\r\n{C}m=audio 4000 RTP/AVP{formats}\r\n")).unwrap();
        assert_eq!(stream.formats.len(), 64);
    }
}
