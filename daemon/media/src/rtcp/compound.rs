//! Compound RTCP packets (RFC 3550 section 6.1): checking and reading the peer's, writing ours; no arithmetic.

use rtcp_types::{
    Bye, Compound, ReceiverReport, ReportBlock, RtcpPacket, RtcpPacketParser, RtcpPacketWriterExt, Sdes,
    SdesChunk, SdesItem, SenderReport,
};

use super::SentCounters;
use super::xr::{self, Block};

/// Report blocks that one packet holds.
pub(super) const MAX_BLOCKS: usize = 31;

/// One thing that a participant says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Statement {
    /// Who speaks, and the time in its sender report.
    Sender { ssrc: u32, ntp: Option<u64> },
    /// How it hears someone.
    Heard(Heard),
    /// Someone leaves.
    Bye { ssrc: u32 },
    /// What someone says in an extended report.
    Extended { from: u32, block: Block },
}

/// A report block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    /// Whom it is about.
    pub(super) ssrc: u32,
    /// In 256ths.
    pub(super) fraction_lost: u8,
    /// 24 bits with sign.
    pub(super) cumulative_lost: i32,
    pub(super) highest_extended_seq: u32,
    /// RTP timestamp units.
    pub(super) jitter: u32,
    /// LSR: middle 32 bits of the last sender report's timestamp; 0: none came.
    pub(super) last_report: u32,
    /// DLSR: 65536ths of a second.
    pub(super) delay: u32,
}

/// What a compound packet says; `None` when it is not valid (RFC 3550 appendix A.2): every part has version 2, the first
/// is SR or RR, only the last is padded, and the lengths add up. Parts of other kinds are passed over.
pub(super) fn read(bytes: &[u8]) -> Option<Vec<Statement>> {
    let mut statements = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let [flags, kind, high, low] = *rest.first_chunk::<4>()?;
        let length = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
        let (part, following) = rest.split_at_checked(length)?;
        let first = rest.len() == bytes.len();
        let (version, padded) = (flags >> 6, flags & 0x20 != 0);
        let is_report = matches!(kind, SenderReport::PACKET_TYPE | ReceiverReport::PACKET_TYPE);
        if version != 2 || (padded && (first || !following.is_empty())) || (first && !is_report) {
            return None;
        }
        read_part(kind, part, &mut statements)?;
        rest = following;
    }
    (!statements.is_empty()).then_some(statements)
}

/// Whether a valid packet's source description says that `ssrc` is called `cname`.
pub(super) fn names(bytes: &[u8], ssrc: u32, cname: &str) -> bool {
    let mut rest = bytes;
    while let Some([_, kind, high, low]) = rest.first_chunk::<4>().copied() {
        let length = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
        let Some((part, following)) = rest.split_at_checked(length) else { return false };
        if kind == Sdes::PACKET_TYPE
            && let Ok(description) = Sdes::parse(part)
            && description.chunks().filter(|chunk| chunk.ssrc() == ssrc).any(|chunk| {
                chunk.items().any(|item| item.type_() == SdesItem::CNAME && item.value() == cname.as_bytes())
            })
        {
            return true;
        }
        rest = following;
    }
    false
}

fn read_part(kind: u8, part: &[u8], statements: &mut Vec<Statement>) -> Option<()> {
    match kind {
        SenderReport::PACKET_TYPE => {
            let report = SenderReport::parse(part).ok()?;
            statements.push(Statement::Sender { ssrc: report.ssrc(), ntp: Some(report.ntp_timestamp()) });
            statements.extend(report.report_blocks().map(|block| Statement::Heard(Heard::from(block))));
        }
        ReceiverReport::PACKET_TYPE => {
            let report = ReceiverReport::parse(part).ok()?;
            statements.push(Statement::Sender { ssrc: report.ssrc(), ntp: None });
            statements.extend(report.report_blocks().map(|block| Statement::Heard(Heard::from(block))));
        }
        Bye::PACKET_TYPE => {
            let bye = Bye::parse(part).ok()?;
            statements.extend(bye.ssrcs().map(|ssrc| Statement::Bye { ssrc }));
        }
        xr::PACKET_TYPE => {
            // A broken one must not cost the reports before it.
            if let Some((from, blocks)) = xr::read(part) {
                statements.extend(blocks.into_iter().map(|block| Statement::Extended { from, block }));
            }
        }
        _ => {}
    }
    Some(())
}

impl From<ReportBlock<'_>> for Heard {
    fn from(block: ReportBlock<'_>) -> Self {
        Heard {
            ssrc: block.ssrc(),
            fraction_lost: block.fraction_lost(),
            // Shifting up and down again carries the sign of the 24 bits.
            cumulative_lost: ((block.cumulative_lost() << 8) as i32) >> 8,
            highest_extended_seq: block.extended_sequence_number(),
            jitter: block.interarrival_jitter(),
            last_report: block.last_sender_report_timestamp(),
            delay: block.delay_since_last_sender_report_timestamp(),
        }
    }
}

/// What our packet shall say.
#[derive(Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) ssrc: u32,
    pub(super) cname: &'a str,
    /// NTP time and counters, where we are a sender.
    pub(super) sender: Option<(u64, &'a SentCounters)>,
    /// At most [`MAX_BLOCKS`].
    pub(super) blocks: &'a [Heard],
    /// Of an extended report; few.
    pub(super) extended: &'a [Block],
    pub(super) bye: bool,
}

/// The compound packet; `None` where rtcp-types refuses a value, which the bounds of its parts exclude.
pub(super) fn write(outgoing: &Outgoing<'_>) -> Option<Vec<u8>> {
    let blocks = outgoing.blocks.iter().map(|heard| {
        ReportBlock::builder(heard.ssrc)
            .fraction_lost(heard.fraction_lost)
            .cumulative_lost(heard.cumulative_lost as u32 & 0xff_ffff)
            .extended_sequence_number(heard.highest_extended_seq)
            .interarrival_jitter(heard.jitter)
            .last_sender_report_timestamp(heard.last_report)
            .delay_since_last_sender_report_timestamp(heard.delay)
    });
    let mut compound = match outgoing.sender {
        Some((ntp, sent)) => {
            let report = SenderReport::builder(outgoing.ssrc)
                .ntp_timestamp(ntp)
                .rtp_timestamp(sent.rtp_timestamp)
                .packet_count(sent.packets)
                .octet_count(sent.octets);
            Compound::builder()
                .add_packet(blocks.fold(report, |report, block| report.add_report_block(block)))
        }
        None => {
            let report = ReceiverReport::builder(outgoing.ssrc);
            Compound::builder()
                .add_packet(blocks.fold(report, |report, block| report.add_report_block(block)))
        }
    };
    let cname = SdesItem::builder(SdesItem::CNAME, outgoing.cname);
    compound =
        compound.add_packet(Sdes::builder().add_chunk(SdesChunk::builder(outgoing.ssrc).add_item(cname)));
    // SR with 31 blocks and SDES with 255 octets stay below this.
    let mut packet = vec![0; 1200];
    let length = compound.write_into(&mut packet).ok()?;
    packet.truncate(length);
    packet.append(&mut xr::write(outgoing.ssrc, outgoing.extended));
    if outgoing.bye {
        let mut bye = [0; 8];
        Bye::builder().add_source(outgoing.ssrc).write_into(&mut bye).ok()?;
        packet.extend(bye);
    }
    Some(packet)
}

/// The name, cut to the 255 octets of its field.
pub(super) fn fitting_cname(mut cname: String) -> String {
    while cname.len() > 255 {
        cname.pop();
    }
    cname
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: SentCounters = SentCounters { packets: 10, octets: 1600, rtp_timestamp: 4711, active: true };

    fn heard(cumulative_lost: i32) -> Heard {
        Heard {
            ssrc: 9,
            fraction_lost: 12,
            cumulative_lost,
            highest_extended_seq: 0x1_0203,
            jitter: 33,
            last_report: 0xdead_beef,
            delay: 77,
        }
    }

    fn written(blocks: &[Heard], bye: bool) -> Vec<u8> {
        let sender = Some((0x0123_4567_89ab_cdef, &SENT));
        write(&Outgoing { ssrc: 5, cname: "a", sender, blocks, extended: &[], bye }).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        for lost in [-0x80_0000, -1, 0, 1, 0x7f_ffff] {
            let statements = read(&written(&[heard(lost)], true)).unwrap();
            let sender = Statement::Sender { ssrc: 5, ntp: Some(0x0123_4567_89ab_cdef) };
            assert_eq!(statements, [sender, Statement::Heard(heard(lost)), Statement::Bye { ssrc: 5 }]);
        }
    }

    #[test]
    fn the_fullest_packet_fits() {
        let cname = fitting_cname("ü".repeat(300));
        assert_eq!(cname.len(), 254);
        let blocks = [heard(0); MAX_BLOCKS];
        let (sender, extended) = (None, &[]);
        let packet =
            write(&Outgoing { ssrc: 5, cname: &cname, sender, blocks: &blocks, extended, bye: true });
        assert_eq!(read(&packet.unwrap()).unwrap().len(), 1 + MAX_BLOCKS + 1);
    }

    #[test]
    fn a_description_names_the_source() {
        let packet = written(&[], false);
        // SR of 28 octets, then SDES with one chunk: SSRC 5, CNAME of one octet "a", end.
        let expected = [0x81, 202, 0, 2, 0, 0, 0, 5, 1, 1, b'a', 0];
        assert_eq!(packet.split_at(28).1, expected);
    }

    #[test]
    fn a_source_is_known_by_its_name() {
        let packet = written(&[], true);
        assert!(names(&packet, 5, "a"));
        assert!(!names(&packet, 5, "b") && !names(&packet, 6, "a") && !names(&packet, 5, ""));
        for length in 0..packet.len() - 8 {
            assert!(!names(packet.split_at(length).0, 5, "a"), "{length}");
        }
    }

    #[test]
    fn packets_that_break_the_rules_are_refused() {
        let good = written(&[heard(1)], true);
        assert!(read(&good).is_some());
        assert!(read(&[]).is_none());
        for length in 1..good.len() {
            let cut = good.split_at(length).0;
            // Whole parts may be missing at the end.
            let whole = length == 52 || length == 64;
            assert_eq!(read(cut).is_some(), whole, "{length}");
        }
        let broken = |place: usize, value: u8| {
            let mut packet = good.clone();
            packet[place] = value;
            read(&packet)
        };
        assert!(broken(0, 0x41).is_none(), "version 1");
        assert!(broken(0, 0xa1).is_none(), "padding in the first part");
        assert!(broken(52, 0xa1).is_none(), "padding in the middle");
        assert!(broken(1, 202).is_none(), "no report in front");
        assert!(broken(0, 0x82).is_none(), "more blocks than octets");
        assert!(broken(3, 200).is_none(), "longer than the datagram");
        assert!(broken(53, 210).is_some(), "an unknown part is passed over");
    }
}
