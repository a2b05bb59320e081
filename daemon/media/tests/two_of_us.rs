//! Two sides of our own always agree where they can, and each understands the numbers that the other sends.

use crate::support::*;
use proptest::prelude::*;
use voipd_media::{Agreement, Codec, Direction, NegotiationError, ReceiveFormat};

fn codecs() -> impl Strategy<Value = Vec<Codec>> {
    proptest::sample::subsequence(ALL.to_vec(), 1..=ALL.len()).prop_shuffle()
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![
        Just(Direction::SendRecv),
        Just(Direction::SendOnly),
        Just(Direction::RecvOnly),
        Just(Direction::Inactive)
    ]
}

/// What one sends, the other knows; and what one may send, the other wants.
fn fits(one: &Agreement, other: &Agreement) {
    assert_eq!(one.send.codec, other.send.codec);
    assert!(other.receive.contains(&(one.send.payload_type, ReceiveFormat::Audio(one.send.codec))));
    let (number, rate) = one.send_events.unwrap();
    assert_eq!(rate, one.send.codec.clock_rate());
    assert!(other.receive.contains(&(number, ReceiveFormat::Events(rate))));
    assert_eq!(one.direction, other.direction.reversed());
}

proptest! {
    #[test]
    fn two_sides_agree(
        a_codecs in codecs(),
        b_codecs in codecs(),
        exchanges in proptest::collection::vec((any::<bool>(), direction(), direction()), 1..6),
    ) {
        let (mut a, mut b) = (side(&a_codecs), side(&b_codecs));
        let common = a_codecs.iter().find(|codec| b_codecs.contains(codec));
        let mut agreed: Option<Codec> = None;
        for (a_offers, offered, wanted) in exchanges {
            let (one, other, codecs) =
                if a_offers { (&mut a, &mut b, &a_codecs) } else { (&mut b, &mut a, &b_codecs) };
            let offer = one.make_offer(here(), offered);
            let result = other.handle_offer(&offer);
            if common.is_none() {
                prop_assert!(matches!(result, Err(NegotiationError::NoCommonCodec { .. })), "{result:?}");
                return Ok(());
            }
            result.unwrap();
            let (answer, theirs) = other.make_answer(there(), wanted).unwrap();
            let ours = one.handle_answer(&answer).unwrap();
            fits(&ours, &theirs);
            fits(&theirs, &ours);
            // The offerer's first common codec, and then no other.
            let first = agreed.or_else(|| {
                let others = if a_offers { &b_codecs } else { &a_codecs };
                codecs.iter().copied().find(|codec| others.contains(codec))
            });
            prop_assert_eq!(Some(ours.send.codec), first);
            agreed = first;
        }
    }
}
