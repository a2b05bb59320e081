//! Sums: what one port hears out of what others give. Ports that hear the same but themselves share one sum, from which
//! each takes itself away, so that a conference of n costs 2n additions of frames and not n².

use crate::MAX_FRAME;
use crate::engine::port::{PortSet, SourceFrame, frame_len};

/// From so many sources on a shared sum is cheaper than one of one's own.
const WORTH_SHARING: usize = 3;

/// A port that hears, and what.
#[derive(Clone, Copy)]
struct Listener {
    /// Of `all` and `rate`: equal ones come to stand side by side.
    hash: u64,
    slot: usize,
    /// Hertz; 0: it hears nothing now.
    rate: u32,
    /// What it hears, and itself.
    all: PortSet,
    /// Number of the sum that it shares.
    group: Option<usize>,
}

impl Listener {
    const NOBODY: Listener = Listener { hash: 0, slot: 0, rate: 0, all: PortSet::EMPTY, group: None };
}

/// Who hears what, arranged so that those who share a sum are served one after another.
pub(crate) struct Mixer {
    listeners: Box<[Listener]>,
    len: usize,
    stale: bool,
    /// The group whose sum `total` holds in this tick.
    summed: Option<usize>,
    total: [f32; MAX_FRAME],
    /// Sources in `total`.
    sounding: usize,
}

impl Mixer {
    /// Control thread.
    pub(crate) fn new(max_ports: usize) -> Self {
        Mixer {
            listeners: vec![Listener::NOBODY; max_ports].into_boxed_slice(),
            len: 0,
            stale: false,
            summed: None,
            total: [0.0; MAX_FRAME],
            sounding: 0,
        }
    }

    /// Somebody hears something else than before, or at another rate.
    pub(crate) fn changed(&mut self) {
        self.stale = true;
    }

    /// A tick begins.
    pub(crate) fn begin(&mut self) {
        self.summed = None;
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.stale
    }

    /// Arranges the ports by what they hear: slot, rate in hertz (`None`: nothing is heard now), and sources.
    pub(crate) fn arrange(&mut self, ports: impl Iterator<Item = (usize, Option<u32>, PortSet)>) {
        (self.stale, self.len) = (false, 0);
        for (listener, (slot, rate, sources)) in self.listeners.iter_mut().zip(ports) {
            let mut all = sources;
            all.insert(slot);
            let rate = rate.unwrap_or(0);
            *listener = Listener { hash: all.hash() ^ u64::from(rate), slot, rate, all, group: None };
            self.len += 1;
        }
        let listeners = self.listeners.get_mut(..self.len).unwrap_or_default();
        // In place: a stable sort would allocate.
        listeners.sort_unstable_by_key(|listener| (listener.hash, listener.slot));
        let alike = |a: &Listener, b: &Listener| a.rate == b.rate && a.all == b.all;
        for (group, listeners) in listeners.chunk_by_mut(alike).enumerate() {
            let shared = listeners.len() > 1
                && listeners.first().is_some_and(|one| one.rate != 0 && one.all.len() > WORTH_SHARING);
            for listener in listeners.iter_mut().filter(|_| shared) {
                listener.group = Some(group);
            }
        }
    }

    /// Slots in the order in which they are to be served, by place.
    pub(crate) fn slot(&self, place: usize) -> Option<usize> {
        self.listeners.get(..self.len)?.get(place).map(|listener| listener.slot)
    }

    /// Writes what the port at `place` hears to `out`: 10 ms of `sources` at `rate`. Sources of another rate have been
    /// converted before.
    pub(crate) fn mix(
        &mut self,
        place: usize,
        frames: &[SourceFrame],
        sources: PortSet,
        rate: u32,
        out: &mut [f32],
    ) {
        let shared = self.listeners.get(place).filter(|listener| listener.rate == rate);
        let Some(Listener { group: Some(group), slot, all, .. }) = shared.copied() else {
            return mix(frames, sources, rate, out);
        };
        let total = self.total.get_mut(..frame_len(rate)).unwrap_or_default();
        if self.summed != Some(group) {
            self.summed = Some(group);
            self.sounding = sum(sounding(frames, all).map(|frame| frame.at(rate)), total);
        }
        let own = frames.get(slot).filter(|frame| frame.is_sounding() && !sources.contains(slot));
        if self.sounding - usize::from(own.is_some()) < WORTH_SHARING {
            return mix(frames, sources, rate, out);
        }
        match own {
            None => out.iter_mut().zip(total).for_each(|(to, from)| *to = *from),
            Some(own) => {
                for ((to, from), own) in out.iter_mut().zip(total).zip(own.at(rate)) {
                    *to = *from - *own;
                }
            }
        }
        limit(out);
    }
}

/// The sum of `sources` at `rate`.
pub(crate) fn mix(frames: &[SourceFrame], sources: PortSet, rate: u32, out: &mut [f32]) {
    // One alone is within bounds, and passes as it is.
    if sum(sounding(frames, sources).map(|frame| frame.at(rate)), out) > 1 {
        limit(out);
    }
}

fn sounding(frames: &[SourceFrame], sources: PortSet) -> impl Iterator<Item = &SourceFrame> {
    sources.iter().filter_map(|slot| frames.get(slot)).filter(|frame| frame.is_sounding())
}

/// Answers how many there were.
fn sum<'a>(mut sources: impl Iterator<Item = &'a [f32]>, out: &mut [f32]) -> usize {
    let Some(first) = sources.next() else {
        out.fill(0.0);
        return 0;
    };
    for (to, from) in out.iter_mut().zip(first) {
        *to = *from;
    }
    let mut count = 1;
    for source in sources {
        count += 1;
        for (to, from) in out.iter_mut().zip(source) {
            *to += *from;
        }
    }
    count
}

/// Bends what exceeds half of full scale so that no sum goes beyond it; quieter sound is left as it is.
pub(crate) fn limit(samples: &mut [f32]) {
    const KNEE: f32 = 0.5;
    let loudest =
        samples.iter().fold(0.0_f32, |most, sample| if sample.abs() > most { sample.abs() } else { most });
    if loudest <= KNEE {
        return;
    }
    // Without a branch, so that several samples are bent at once.
    for sample in samples {
        let size = sample.abs();
        let over = (size - KNEE).max(0.0) / (1.0 - KNEE);
        // x / (1 + x) rises with slope 1 at the knee and never reaches 1.
        *sample = (size.min(KNEE) + (1.0 - KNEE) * over / (1.0 + over)).copysign(*sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(rate: u32, value: f32) -> SourceFrame {
        let mut frame = SourceFrame::SILENT;
        frame.begin(rate).fill(value);
        frame.listen();
        frame
    }

    fn set(slots: &[usize]) -> PortSet {
        let mut set = PortSet::EMPTY;
        slots.iter().for_each(|slot| set.insert(*slot));
        set
    }

    fn heard(frames: &[SourceFrame], sources: &[usize]) -> f32 {
        let mut out = [1.0; 80];
        mix(frames, set(sources), 8000, &mut out);
        assert!(out.iter().all(|sample| *sample == out[0]));
        out[0]
    }

    #[test]
    fn one_source_passes_untouched() {
        let frames = [frame(8000, 0.9), SourceFrame::SILENT];
        assert_eq!(heard(&frames, &[0, 1]), 0.9);
    }

    #[test]
    fn sums_are_kept_within_full_scale() {
        let frames = [frame(8000, 0.9), frame(8000, 0.8), frame(8000, -0.1)];
        let loud = heard(&frames, &[0, 1]);
        assert!(loud < 1.0 && loud > 0.8);
        let softer = heard(&frames, &[0, 2]);
        assert!((softer - 0.69).abs() < 0.02, "{softer}");
        assert_eq!(heard(&[frame(8000, 0.2), frame(8000, 0.25)], &[0, 1]), 0.45);
        assert!((heard(&[frame(8000, -0.9), frame(8000, -0.8)], &[0, 1]) + loud).abs() < 1e-6);
    }

    #[test]
    fn no_source_is_silence() {
        assert_eq!(heard(&[], &[3]), 0.0);
    }

    /// What each of `ports` hears by itself and by way of the mixer.
    fn compare(frames: &[SourceFrame], ports: &[(usize, Option<u32>, PortSet)], shared: usize) {
        let mut mixer = Mixer::new(64);
        mixer.arrange(ports.iter().copied());
        let groups = mixer.listeners.iter().filter(|listener| listener.group.is_some()).count();
        assert_eq!(groups, shared);
        let mut served = Vec::new();
        mixer.begin();
        while let Some(slot) = mixer.slot(served.len()) {
            let (_, rate, sources) = ports.iter().find(|(other, ..)| *other == slot).unwrap();
            if let Some(rate) = *rate {
                let (mut direct, mut by_mixer) = ([0.0; MAX_FRAME], [0.0; MAX_FRAME]);
                mix(frames, *sources, rate, &mut direct[..frame_len(rate)]);
                mixer.mix(served.len(), frames, *sources, rate, &mut by_mixer[..frame_len(rate)]);
                for (direct, by_mixer) in direct.iter().zip(by_mixer) {
                    assert!((direct - by_mixer).abs() < 1e-6, "{slot}: {direct} {by_mixer}");
                }
            }
            served.push(slot);
        }
        served.sort_unstable();
        let mut slots: Vec<usize> = ports.iter().map(|(slot, ..)| *slot).collect();
        slots.sort_unstable();
        assert_eq!(served, slots);
    }

    #[test]
    fn a_shared_sum_gives_everybody_what_a_sum_of_his_own_would() {
        let mut frames: Vec<SourceFrame> =
            (0..18).map(|n: i16| frame(8000, f32::from(n % 5 - 2) / 20.0 + 0.01)).collect();
        let everybody: Vec<usize> = (0..18).collect();
        let all_but = |slot: usize| {
            let mut others = set(&everybody);
            others.remove(slot);
            others
        };
        let mut ports: Vec<_> = (0..18).map(|slot| (slot, Some(8000), all_but(slot))).collect();
        compare(&frames, &ports, 18);
        // One is on hold and hears nothing, one sends no sound, one hears itself, one hears somebody else alone.
        ports[3].1 = None;
        frames[4] = SourceFrame::SILENT;
        ports[5].2.insert(5);
        ports[6].2 = set(&[1]);
        ports.push((40, Some(8000), set(&everybody)));
        compare(&frames, &ports, 16);
    }

    #[test]
    fn few_who_talk_are_summed_for_each() {
        let mut frames: Vec<SourceFrame> = (0..6).map(|_| SourceFrame::SILENT).collect();
        frames[2] = frame(8000, 0.9);
        let others = |slot: usize| {
            let mut others = set(&[0, 1, 2, 3, 4, 5]);
            others.remove(slot);
            others
        };
        let ports: Vec<_> = (0..6).map(|slot| (slot, Some(8000), others(slot))).collect();
        compare(&frames, &ports, 6);
    }
}
