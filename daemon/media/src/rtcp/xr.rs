//! Extended reports (RFC 3611): VoIP metrics, and the times that let a mere receiver learn the round trip. Reading the
//! peer's, writing ours; the figures come from elsewhere.

/// Packet type of an extended report.
pub(super) const PACKET_TYPE: u8 = 207;

const RECEIVER_TIME: u8 = 4;
const DELAY_SINCE: u8 = 5;
const VOIP_METRICS: u8 = 7;

/// How one end hears the other, as it is told to the other (RFC 3611 section 4.7). What is not known is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct VoipMetrics {
    /// Share of packets that never came, 0.0 to 1.0.
    pub loss: f32,
    /// Share of packets that came and were not played: too late, or no room.
    pub discarded: f32,
    /// Share of missing packets in bursts.
    pub burst_density: f32,
    /// Share of missing packets outside of bursts.
    pub gap_density: f32,
    /// Mean length of a burst in milliseconds.
    pub burst_ms: u16,
    /// Mean length of a gap in milliseconds.
    pub gap_ms: u16,
    /// Round trip between the two RTP ends in milliseconds; 0: not known.
    pub round_trip_ms: u16,
    /// What the end itself adds: buffer, codec, device, in milliseconds; 0: not known.
    pub end_system_ms: u16,
    /// Level of the speech received, in dBov.
    pub signal_dbov: Option<i8>,
    /// Level of the noise between, in dBov.
    pub noise_dbov: Option<i8>,
    /// Residual echo return loss in dB.
    pub echo_return_loss_db: Option<u8>,
    /// Rating of the E-model, 0 to 100.
    pub rating: Option<u8>,
    /// Mean opinion score of what is heard, 1.0 to 5.0.
    pub listening_opinion: Option<f32>,
    /// The same of the conversation: with delay.
    pub conversation_opinion: Option<f32>,
    /// What the jitter buffer aims at now, in milliseconds.
    pub buffer_ms: u16,
    /// Delay of the jitter buffer at its longest so far, in milliseconds.
    pub buffer_max_ms: u16,
    /// Delay that the jitter buffer never exceeds, in milliseconds.
    pub buffer_limit_ms: u16,
}

/// One block of an extended report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Block {
    /// How the sender of the report hears `ssrc`.
    Voip { ssrc: u32, metrics: VoipMetrics },
    /// When the sender of the report wrote it, as an NTP timestamp.
    ReceiverTime { ntp: u64 },
    /// Answer to such a time of `ssrc`'s: its middle 32 bits, and the delay since, in 65536ths of a second.
    DelaySince { ssrc: u32, last: u32, delay: u32 },
}

/// Who reports, and the blocks that are understood; a block that breaks the rules ends the reading. `part` is one packet
/// of a compound, with its header and padding.
pub(super) fn read(part: &[u8]) -> Option<(u32, Vec<Block>)> {
    let padding = match part.first_chunk::<1>()? {
        [flags] if flags & 0x20 != 0 => usize::from(*part.last()?),
        _ => 0,
    };
    let content = part.get(4..part.len().checked_sub(padding)?)?;
    let (sender, mut rest) = content.split_first_chunk::<4>()?;
    let mut blocks = Vec::new();
    while let Some(([kind, specific, high, low], following)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([*high, *low])) * 4;
        let Some((content, following)) = following.split_at_checked(length) else { break };
        read_block(*kind, *specific, content, &mut blocks);
        rest = following;
    }
    Some((u32::from_be_bytes(*sender), blocks))
}

fn read_block(kind: u8, _specific: u8, content: &[u8], blocks: &mut Vec<Block>) {
    match kind {
        RECEIVER_TIME => {
            // RFC 3611 section 4.4: with another length than 2 words the block is to be thrown away.
            if let Ok(ntp) = <[u8; 8]>::try_from(content) {
                blocks.push(Block::ReceiverTime { ntp: u64::from_be_bytes(ntp) });
            }
        }
        DELAY_SINCE => {
            let (answers, _) = content.as_chunks::<12>();
            blocks.extend(answers.iter().map(|answer| {
                let [a, b, c, d, e, f, g, h, i, j, k, l] = *answer;
                let word = u32::from_be_bytes;
                Block::DelaySince {
                    ssrc: word([a, b, c, d]),
                    last: word([e, f, g, h]),
                    delay: word([i, j, k, l]),
                }
            }));
        }
        VOIP_METRICS => {
            if let Ok(content) = <[u8; 32]>::try_from(content) {
                blocks.push(read_metrics(content));
            }
        }
        _ => {}
    }
}

fn read_metrics(content: [u8; 32]) -> Block {
    let [
        s0,
        s1,
        s2,
        s3,
        loss,
        discarded,
        burst,
        gap,
        b0,
        b1,
        g0,
        g1,
        r0,
        r1,
        e0,
        e1,
        signal,
        noise,
        echo,
        _gmin,
        rating,
        _external,
        listening,
        conversation,
        _config,
        _,
        n0,
        n1,
        m0,
        m1,
        l0,
        l1,
    ] = content;
    let known = |value: u8| (value != UNKNOWN).then_some(value);
    let level = |value: u8| known(value).map(|value| value as i8);
    // Tenths, from 1.0 to 5.0.
    let opinion = |value: u8| (10..=50).contains(&value).then(|| f32::from(value) / 10.0);
    let metrics = VoipMetrics {
        loss: share(loss),
        discarded: share(discarded),
        burst_density: share(burst),
        gap_density: share(gap),
        burst_ms: u16::from_be_bytes([b0, b1]),
        gap_ms: u16::from_be_bytes([g0, g1]),
        round_trip_ms: u16::from_be_bytes([r0, r1]),
        end_system_ms: u16::from_be_bytes([e0, e1]),
        signal_dbov: level(signal),
        noise_dbov: level(noise),
        echo_return_loss_db: known(echo),
        rating: known(rating).filter(|rating| *rating <= 100),
        listening_opinion: opinion(listening),
        conversation_opinion: opinion(conversation),
        buffer_ms: u16::from_be_bytes([n0, n1]),
        buffer_max_ms: u16::from_be_bytes([m0, m1]),
        buffer_limit_ms: u16::from_be_bytes([l0, l1]),
    };
    Block::Voip { ssrc: u32::from_be_bytes([s0, s1, s2, s3]), metrics }
}

/// What stands for an unknown level, rating or opinion.
const UNKNOWN: u8 = 127;
/// RFC 3611 section 4.7.2.
const GMIN: u8 = 16;
/// Standard concealment, adaptive jitter buffer (RFC 3611 section 4.7.6); the rate of adaptation is not told.
const RECEIVER_CONFIG: u8 = 0b1111_0000;

fn share(octet: u8) -> f32 {
    f32::from(octet) / 256.0
}

fn octet(share: f32) -> u8 {
    (share.clamp(0.0, 1.0) * 256.0).round().min(255.0) as u8
}

/// The report of `sender` with these blocks; nothing without blocks.
pub(super) fn write(sender: u32, blocks: &[Block]) -> Vec<u8> {
    if blocks.is_empty() {
        return Vec::new();
    }
    let mut content = sender.to_be_bytes().to_vec();
    for block in blocks {
        write_block(block, &mut content);
    }
    // Each block is of a fixed length and there are few: far below what the field holds.
    let words = u16::try_from(content.len() / 4).unwrap_or(u16::MAX);
    let [high, low] = words.to_be_bytes();
    let mut packet = vec![0x80, PACKET_TYPE, high, low];
    packet.append(&mut content);
    packet
}

fn write_block(block: &Block, to: &mut Vec<u8>) {
    match *block {
        Block::ReceiverTime { ntp } => {
            to.extend([RECEIVER_TIME, 0, 0, 2]);
            to.extend(ntp.to_be_bytes());
        }
        Block::DelaySince { ssrc, last, delay } => {
            to.extend([DELAY_SINCE, 0, 0, 3]);
            to.extend([ssrc, last, delay].into_iter().flat_map(u32::to_be_bytes));
        }
        Block::Voip { ssrc, metrics } => {
            let opinion = |value: Option<f32>| {
                value.map_or(UNKNOWN, |value| (value.clamp(1.0, 5.0) * 10.0).round() as u8)
            };
            let level = |value: Option<i8>| value.map_or(UNKNOWN, |value| value.min(0) as u8);
            let most = |value: Option<u8>, most: u8| value.map_or(UNKNOWN, |value| value.min(most));
            to.extend([VOIP_METRICS, 0, 0, 8]);
            to.extend(ssrc.to_be_bytes());
            to.extend(
                [metrics.loss, metrics.discarded, metrics.burst_density, metrics.gap_density].map(octet),
            );
            let times = [metrics.burst_ms, metrics.gap_ms, metrics.round_trip_ms, metrics.end_system_ms];
            to.extend(times.into_iter().flat_map(u16::to_be_bytes));
            to.extend([
                level(metrics.signal_dbov),
                level(metrics.noise_dbov),
                most(metrics.echo_return_loss_db, UNKNOWN - 1),
                GMIN,
                most(metrics.rating, 100),
                UNKNOWN,
                opinion(metrics.listening_opinion),
                opinion(metrics.conversation_opinion),
                RECEIVER_CONFIG,
                0,
            ]);
            let buffer = [metrics.buffer_ms, metrics.buffer_max_ms, metrics.buffer_limit_ms];
            to.extend(buffer.into_iter().flat_map(u16::to_be_bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const METRICS: VoipMetrics = VoipMetrics {
        loss: 0.125,
        discarded: 0.0625,
        burst_density: 0.5,
        gap_density: 0.25,
        burst_ms: 320,
        gap_ms: 65_535,
        round_trip_ms: 150,
        end_system_ms: 65,
        signal_dbov: Some(-23),
        noise_dbov: Some(-71),
        echo_return_loss_db: None,
        rating: Some(84),
        listening_opinion: Some(4.1),
        conversation_opinion: None,
        buffer_ms: 40,
        buffer_max_ms: 60,
        buffer_limit_ms: 400,
    };

    fn blocks() -> [Block; 3] {
        [
            Block::Voip { ssrc: 0x0102_0304, metrics: METRICS },
            Block::ReceiverTime { ntp: 0x0123_4567_89ab_cdef },
            Block::DelaySince { ssrc: 7, last: 8, delay: 9 },
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        let packet = write(5, &blocks());
        assert_eq!(read(&packet), Some((5, blocks().to_vec())));
        assert_eq!(write(5, &[]), []);
    }

    #[test]
    fn metrics_stand_where_the_rfc_has_them() {
        let packet = write(5, &[Block::Voip { ssrc: 0x0102_0304, metrics: METRICS }]);
        let expected = [
            0x80, 207, 0, 10, 0, 0, 0, 5, // header and sender
            7, 0, 0, 8, 1, 2, 3, 4, // block and source
            32, 16, 128, 64, 1, 64, 255, 255, // loss, discards, densities, durations
            0, 150, 0, 65, 0xe9, 0xb9, 127, 16, // delays, levels, echo, Gmin
            84, 127, 41, 127, 0xf0, 0, 0, 40, // ratings, opinions, configuration, buffer
            0, 60, 1, 144,
        ];
        assert_eq!(packet, expected);
    }

    #[test]
    fn what_is_not_known_is_no_rating() {
        let metrics = VoipMetrics { rating: None, listening_opinion: None, ..METRICS };
        let mut packet = write(5, &[Block::Voip { ssrc: 1, metrics }]);
        assert_eq!(packet[32..36], [127; 4]);
        assert_eq!(read(&packet), Some((5, vec![Block::Voip { ssrc: 1, metrics }])));
        // Nor is what no rating and no opinion can be.
        (packet[32], packet[34]) = (101, 0);
        assert_eq!(read(&packet), Some((5, vec![Block::Voip { ssrc: 1, metrics }])));
    }

    #[test]
    fn unfit_blocks_are_left_out() {
        let good = write(5, &blocks());
        // A block of an unknown kind before the others, and a VoIP block that is too short.
        let mut packet = good.clone();
        packet[8] = 99;
        assert_eq!(read(&packet), Some((5, blocks()[1..].to_vec())));
        // One that claims more than there is.
        packet[11] = 200;
        assert_eq!(read(&packet), Some((5, Vec::new())));
        // Padding that claims more than there is, and some that does not.
        let mut padded = good.clone();
        padded[0] |= 0x20;
        padded.extend([0, 0, 0, 4]);
        assert_eq!(read(&padded), Some((5, blocks().to_vec())));
        *padded.last_mut().unwrap() = 255;
        assert_eq!(read(&padded), None);
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some((sender, blocks)) = read(&bytes) {
                prop_assert!(blocks.len() <= bytes.len() / 8);
                // What was understood can be told on, and then means the same.
                let written = write(sender, &blocks);
                prop_assert!(blocks.is_empty() || read(&written) == Some((sender, blocks)));
            }
        }

        #[test]
        fn wild_figures_stay_in_their_fields(loss in any::<f32>(), opinion in any::<f32>(), level in any::<i8>(), rating in any::<u8>()) {
            let metrics = VoipMetrics {
                loss,
                listening_opinion: Some(opinion),
                signal_dbov: Some(level),
                rating: Some(rating),
                ..METRICS
            };
            let packet = write(5, &[Block::Voip { ssrc: 1, metrics }]);
            let Some((5, blocks)) = read(&packet) else { panic!("unreadable") };
            let [Block::Voip { metrics, .. }] = blocks[..] else { panic!("{blocks:?}") };
            prop_assert!((0.0..1.0).contains(&metrics.loss));
            prop_assert!(metrics.rating.is_some_and(|rating| rating <= 100));
            prop_assert!(metrics.signal_dbov.is_some_and(|level| level <= 0));
        }
    }
}
