//! Which half of an octet holds the earlier of two codes, and how to find out what a peer does: there are peers that say
//! `G726-32` and pack as AAL2 (Debian's baresip among them). In the wrong order speech keeps its words and gets a hiss.

/// The order of two codes in an octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::codec) enum Packing {
    /// The earlier in the lower half: `G726-32` (RFC 3551 section 4.5.4).
    Rtp,
    /// The earlier in the upper half: `AAL2-G726-32` (ITU-T I.366.2 annex E).
    Aal2,
}

impl Packing {
    pub(super) fn other(self) -> Self {
        match self {
            Packing::Rtp => Packing::Aal2,
            Packing::Aal2 => Packing::Rtp,
        }
    }

    pub(super) fn octet(self, [earlier, later]: [u8; 2]) -> u8 {
        match self {
            Packing::Rtp => earlier | later << 4,
            Packing::Aal2 => earlier << 4 | later,
        }
    }

    /// The earlier one first.
    pub(super) fn codes(self, octet: u8) -> [u8; 2] {
        match self {
            Packing::Rtp => [octet & 0x0f, octet >> 4],
            Packing::Aal2 => [octet >> 4, octet & 0x0f],
        }
    }
}

/// Samples that are judged together: 50 ms.
const WINDOW: u32 = 400;
/// By how much the other packing must be ahead, as a natural logarithm, how far any can be, and what one window adds at most.
const LEAD: f32 = 6.0;
const CERTAIN: f32 = 12.0;
const MOST: f32 = 1.5;
/// No speech of 50 ms is foretold so well.
const HUM: f32 = 0.003;
/// Mean power below which nothing is judged: about -50 dBFS.
const AUDIBLE: f32 = 10_000.0;
/// Samples back that a sound is foretold from.
const ORDER: usize = 4;

/// Hears the same codes in both packings: in the wrong one, samples have less to do with those before.
#[derive(Clone, Default)]
pub(super) struct Judge {
    ours: Ear,
    other: Ear,
    samples: u32,
    /// How much better ours has been foretold than the other one: the sum of the ratios' logarithms.
    lead: f32,
}

/// The last samples, and the correlation of this window's with them.
#[derive(Clone, Default)]
struct Ear {
    /// The last one first.
    past: [f32; ORDER + 1],
    products: [f32; ORDER + 1],
}

impl Ear {
    fn hear(&mut self, sample: i16) {
        let sample = f32::from(sample);
        self.past.rotate_right(1);
        self.past[0] = sample;
        for (product, past) in self.products.iter_mut().zip(self.past) {
            *product += sample * past;
        }
    }

    fn power(&self) -> f32 {
        self.products[0]
    }

    /// The share of the power that linear prediction leaves (Levinson and Durbin).
    fn surprise(&self) -> f32 {
        let products = &self.products;
        let mut predictor = [0.0_f32; ORDER];
        let mut left = products[0].max(1.0);
        for step in 0..ORDER {
            let known = predictor.iter().take(step).zip(products.iter().take(step + 1).skip(1).rev());
            let reached: f32 = known.map(|(factor, product)| factor * product).sum();
            let reflection =
                ((products.get(step + 1).copied().unwrap_or_default() - reached) / left).clamp(-0.99, 0.99);
            let before = predictor;
            for (factor, mirrored) in predictor.iter_mut().zip(before.iter().take(step).rev()) {
                *factor -= reflection * mirrored;
            }
            if let Some(factor) = predictor.get_mut(step) {
                *factor = reflection;
            }
            left *= 1.0 - reflection * reflection;
        }
        left / products[0].max(1.0)
    }
}

impl Judge {
    /// A sample as it is decoded in the packing that is taken for the peer's, and in the other one.
    pub(super) fn hear(&mut self, ours: i16, other: i16) {
        self.ours.hear(ours);
        self.other.hear(other);
        self.samples += 1;
        if self.samples == WINDOW {
            let Judge { ours, other, .. } = self;
            if ours.power().min(other.power()) > AUDIBLE * WINDOW as f32 {
                let surprises = [ours.surprise(), other.surprise()];
                // A decoder that falls silent by itself hums: that says nothing of the codes.
                if surprises.iter().all(|surprise| *surprise > HUM) {
                    let [ours, other] = surprises;
                    self.lead = (self.lead + (other / ours).ln().clamp(-MOST, MOST)).min(CERTAIN);
                }
            }
            self.ours.products = [0.0; ORDER + 1];
            self.other.products = [0.0; ORDER + 1];
            self.samples = 0;
        }
    }

    /// Whether the other packing is the peer's. From then on it is the one that is judged.
    pub(super) fn turns(&mut self) -> bool {
        let turned = self.lead < -LEAD;
        if turned {
            std::mem::swap(&mut self.ours, &mut self.other);
            self.lead = -self.lead;
        }
        turned
    }
}
