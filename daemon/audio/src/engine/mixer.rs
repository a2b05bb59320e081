//! Sums: what one port hears out of what others give.

use crate::engine::port::{PortSet, SourceFrame};

/// Writes the sum of `sources` to `out`, 10 ms at `rate`. Sources of another rate have been converted before.
pub(crate) fn mix(frames: &[SourceFrame], sources: PortSet, rate: u32, out: &mut [f32]) {
    let sounding = sources.iter().filter_map(|slot| frames.get(slot)).filter(|frame| frame.rate != 0);
    sum(sounding.map(|frame| frame.at(rate)), out);
}

fn sum<'a>(mut sources: impl Iterator<Item = &'a [f32]>, out: &mut [f32]) {
    out.fill(0.0);
    let Some(first) = sources.next() else { return };
    for (to, from) in out.iter_mut().zip(first) {
        *to = *from;
    }
    let mut several = false;
    for source in sources {
        several = true;
        for (to, from) in out.iter_mut().zip(source) {
            *to += *from;
        }
    }
    if several {
        limit(out);
    }
}

/// Bends what exceeds half of full scale so that no sum goes beyond it; quieter sound is left as it is.
pub(crate) fn limit(samples: &mut [f32]) {
    const KNEE: f32 = 0.5;
    for sample in samples {
        let loud = sample.abs() - KNEE;
        if loud > 0.0 {
            // x / (1 + x) rises with slope 1 at the knee and never reaches 1.
            let over = loud / (1.0 - KNEE);
            *sample = (KNEE + (1.0 - KNEE) * over / (1.0 + over)).copysign(*sample);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_FRAME;

    fn frame(rate: u32, value: f32) -> SourceFrame {
        let mut frame = SourceFrame::SILENT;
        frame.begin(rate).fill(value);
        frame
    }

    fn set(slots: &[usize]) -> PortSet {
        let mut set = PortSet::EMPTY;
        slots.iter().for_each(|slot| set.insert(*slot));
        set
    }

    #[test]
    fn one_source_passes_untouched() {
        let frames = [frame(8000, 0.9), SourceFrame::SILENT];
        let mut out = [1.0; MAX_FRAME];
        mix(&frames, set(&[0, 1]), 8000, &mut out[..80]);
        assert!(out[..80].iter().all(|sample| *sample == 0.9));
    }

    #[test]
    fn sums_are_kept_within_full_scale() {
        let frames = [frame(8000, 0.9), frame(8000, 0.8), frame(8000, -0.1)];
        let mut out = [0.0; MAX_FRAME];
        mix(&frames, set(&[0, 1]), 8000, &mut out[..80]);
        assert!(out[0] < 1.0 && out[0] > 0.8);
        mix(&frames, set(&[0, 2]), 8000, &mut out[..80]);
        assert!((out[0] - 0.69).abs() < 0.02, "{}", out[0]);
    }

    #[test]
    fn no_source_is_silence() {
        let mut out = [1.0; MAX_FRAME];
        mix(&[], set(&[3]), 48_000, &mut out);
        assert_eq!(out, [0.0; MAX_FRAME]);
    }
}
