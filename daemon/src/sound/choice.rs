//! How a device is run: its rate, channels and sample format, and the stream of cpal that is built so.

use std::time::Duration;

use cpal::traits::DeviceTrait;
use cpal::{
    BufferSize, ErrorKind, FromSample, SampleFormat, SizedSample, StreamConfig, SupportedBufferSize,
    SupportedStreamConfigRange,
};

use super::name::HostKind;
use super::stream::{CaptureEnd, ErrorGate, PlaybackEnd};

/// cpal's own limit for making a stream, and how often ALSA looks whether a silent device is still there.
const STREAM_TIMEOUT: Duration = Duration::from_secs(2);
/// Rates in hertz, best first: the engine runs at 48 kHz.
const RATES: [u32; 11] =
    [48_000, 96_000, 192_000, 44_100, 88_200, 32_000, 24_000, 22_050, 16_000, 11_025, 8_000];
/// Sample formats, best first.
const FORMATS: [SampleFormat; 10] = [
    SampleFormat::F32,
    SampleFormat::I32,
    SampleFormat::I24,
    SampleFormat::I16,
    SampleFormat::F64,
    SampleFormat::U32,
    SampleFormat::U24,
    SampleFormat::U16,
    SampleFormat::U8,
    SampleFormat::I8,
];

/// How a device is to run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Choice {
    pub(super) config: StreamConfig,
    format: SampleFormat,
    /// Frames that one callback shall have.
    pub(super) period: u32,
}

/// The best rate, then the fewest channels, then the best sample format.
pub(super) fn choose(kind: HostKind, ranges: Vec<SupportedStreamConfigRange>) -> Option<Choice> {
    let ranked = ranges.into_iter().filter_map(|range| {
        let rates = range.min_sample_rate()..=range.max_sample_rate();
        let rate = RATES.iter().position(|rate| rates.contains(rate))?;
        let format = FORMATS.iter().position(|format| *format == range.sample_format())?;
        Some(((rate, range.channels().max(1), format), range))
    });
    let ((rate, channels, _), range) = ranked.min_by_key(|(rank, _)| *rank)?;
    let sample_rate = RATES[rate];
    // 5 ms for a server, whose threads hold the hardware; 10 ms for hardware. A loudspeaker gets two of them.
    let wanted = if kind == HostKind::Alsa { sample_rate / 100 } else { sample_rate / 200 };
    let period = match range.buffer_size() {
        SupportedBufferSize::Range { min, max } => wanted.min(*max).max(*min),
        SupportedBufferSize::Unknown => wanted,
    };
    let config = StreamConfig { channels, sample_rate, buffer_size: BufferSize::Fixed(period) };
    Some(Choice { config, format: range.sample_format(), period })
}

pub(super) fn build_capture(
    device: &cpal::Device,
    choice: &Choice,
    end: CaptureEnd,
    gate: ErrorGate,
) -> Result<cpal::Stream, cpal::Error> {
    fn with<T: SizedSample>(
        device: &cpal::Device,
        config: StreamConfig,
        mut end: CaptureEnd,
        mut gate: ErrorGate,
    ) -> Result<cpal::Stream, cpal::Error>
    where
        f32: FromSample<T>,
    {
        let data = move |data: &[T], _: &cpal::InputCallbackInfo| end.take(data);
        device.build_input_stream(config, data, move |error| gate.report(&error), Some(STREAM_TIMEOUT))
    }
    match choice.format {
        SampleFormat::F32 => with::<f32>(device, choice.config, end, gate),
        SampleFormat::F64 => with::<f64>(device, choice.config, end, gate),
        SampleFormat::I8 => with::<i8>(device, choice.config, end, gate),
        SampleFormat::I16 => with::<i16>(device, choice.config, end, gate),
        SampleFormat::I24 => with::<cpal::I24>(device, choice.config, end, gate),
        SampleFormat::I32 => with::<i32>(device, choice.config, end, gate),
        SampleFormat::U8 => with::<u8>(device, choice.config, end, gate),
        SampleFormat::U16 => with::<u16>(device, choice.config, end, gate),
        SampleFormat::U24 => with::<cpal::U24>(device, choice.config, end, gate),
        SampleFormat::U32 => with::<u32>(device, choice.config, end, gate),
        _ => Err(ErrorKind::UnsupportedConfig.into()),
    }
}

pub(super) fn build_playback(
    device: &cpal::Device,
    choice: &Choice,
    end: PlaybackEnd,
    gate: ErrorGate,
) -> Result<cpal::Stream, cpal::Error> {
    fn with<T: SizedSample + FromSample<f32>>(
        device: &cpal::Device,
        config: StreamConfig,
        mut end: PlaybackEnd,
        mut gate: ErrorGate,
    ) -> Result<cpal::Stream, cpal::Error> {
        let data = move |data: &mut [T], _: &cpal::OutputCallbackInfo| end.give(data);
        device.build_output_stream(config, data, move |error| gate.report(&error), Some(STREAM_TIMEOUT))
    }
    match choice.format {
        SampleFormat::F32 => with::<f32>(device, choice.config, end, gate),
        SampleFormat::F64 => with::<f64>(device, choice.config, end, gate),
        SampleFormat::I8 => with::<i8>(device, choice.config, end, gate),
        SampleFormat::I16 => with::<i16>(device, choice.config, end, gate),
        SampleFormat::I24 => with::<cpal::I24>(device, choice.config, end, gate),
        SampleFormat::I32 => with::<i32>(device, choice.config, end, gate),
        SampleFormat::U8 => with::<u8>(device, choice.config, end, gate),
        SampleFormat::U16 => with::<u16>(device, choice.config, end, gate),
        SampleFormat::U24 => with::<cpal::U24>(device, choice.config, end, gate),
        SampleFormat::U32 => with::<u32>(device, choice.config, end, gate),
        _ => Err(ErrorKind::UnsupportedConfig.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(
        channels: u16,
        rates: (u32, u32),
        format: SampleFormat,
        period: (u32, u32),
    ) -> SupportedStreamConfigRange {
        let buffer = SupportedBufferSize::Range { min: period.0, max: period.1 };
        SupportedStreamConfigRange::new(channels, rates.0, rates.1, buffer, format)
    }

    #[test]
    fn the_engines_rate_comes_first_then_mono_then_the_format() {
        let ranges = vec![
            range(1, (44_100, 44_100), SampleFormat::F32, (1, 9999)),
            range(2, (8_000, 192_000), SampleFormat::I16, (1, 9999)),
            range(2, (8_000, 192_000), SampleFormat::I32, (1, 9999)),
            range(6, (48_000, 48_000), SampleFormat::F32, (1, 9999)),
        ];
        let choice = choose(HostKind::Alsa, ranges).unwrap();
        assert_eq!((choice.config.channels, choice.config.sample_rate), (2, 48_000));
        assert_eq!((choice.format, choice.period), (SampleFormat::I32, 480));
    }

    #[test]
    fn the_callback_size_stays_in_what_the_device_can_do() {
        let one = |kind, period| {
            choose(kind, vec![range(1, (48_000, 48_000), SampleFormat::F32, period)]).unwrap().period
        };
        assert_eq!(one(HostKind::PulseAudio, (1, 9999)), 240);
        assert_eq!(one(HostKind::PipeWire, (1024, 8192)), 1024);
        assert_eq!(one(HostKind::Alsa, (16, 128)), 128);
    }

    #[test]
    fn a_device_with_formats_of_another_trade_is_not_chosen() {
        assert_eq!(
            choose(HostKind::Alsa, vec![range(2, (48_000, 48_000), SampleFormat::DsdU8, (1, 9999))]),
            None
        );
        assert_eq!(
            choose(HostKind::Alsa, vec![range(2, (50_000, 60_000), SampleFormat::F32, (1, 9999))]),
            None
        );
        assert_eq!(choose(HostKind::Alsa, vec![]), None);
    }
}
