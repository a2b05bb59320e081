//! What a call is compared with: the codec alone, and libopus with its plain in-band FEC behind an ideal jitter buffer.

use audiopus::coder::{Decoder as OpusDecoder, Encoder as OpusEncoder};
use audiopus::packet::Packet;
use audiopus::{Application, Bitrate, Channels, MutSignals, SampleRate, Signal};
use voipd_audio::codec::{Decoder, Encoder, EncoderSettings, OPUS_BITRATE};

use crate::call::Cell;
use crate::channel::{Channel, Weather};
use crate::corpus::resampled;

/// The codec alone, as it is sent where nothing gets lost: packet by packet, none waits.
pub fn codec_alone(cell: Cell, speech: &[f32]) -> Vec<f32> {
    let rate = cell.codec.sample_rate();
    let (bitrate, ptime_ms) = cell.undisturbed();
    let settings = EncoderSettings { bitrate, ..EncoderSettings::new(cell.codec, 10) };
    let mut encoder = Encoder::new(settings).unwrap();
    encoder.set_bitrate(bitrate);
    let mut decoder = Decoder::new(cell.codec).unwrap();
    let packet = rate as usize * usize::from(ptime_ms) / 1000;
    let mut payload = [0; 1400];
    let mut heard = Vec::new();
    for samples in resampled(speech, cell.rate, rate).chunks_exact(packet) {
        let length = encoder.encode(samples, &mut payload).unwrap();
        let mut room = vec![0.0; packet];
        decoder.decode(&payload[..length], &mut room).unwrap();
        heard.extend(room);
    }
    resampled(&heard, rate, cell.rate)
}

/// libopus with in-band FEC in packets of 20 ms, as many bits on the wire as the cell allows, told the true loss, decoded
/// with one packet of look-ahead.
pub fn plain_fec(cell: Cell, channel: Channel, seed: u64, speech: &[f32]) -> Vec<f32> {
    const PACKET: usize = 960;
    let mut encoder = OpusEncoder::new(SampleRate::Hz48000, Channels::Mono, Application::Voip).unwrap();
    encoder.set_bitrate(Bitrate::BitsPerSecond(cell.left_at_20_ms().unwrap_or(OPUS_BITRATE) as i32)).unwrap();
    encoder.set_signal(Signal::Voice).unwrap();
    encoder.set_complexity(10).unwrap();
    encoder.set_inband_fec(true).unwrap();
    encoder.set_packet_loss_perc(channel.loss as u8).unwrap();
    let mut weather = Weather::new(channel, seed);
    let mut packets = Vec::new();
    for (number, samples) in resampled(speech, cell.rate, 48_000).chunks_exact(PACKET).enumerate() {
        let mut payload = vec![0; 1400];
        let length = encoder.encode_float(samples, &mut payload).unwrap();
        payload.truncate(length);
        packets.push(weather.arrival(number as u64 * 20_000_000).map(|_| payload));
    }
    let mut decoder = OpusDecoder::new(SampleRate::Hz48000, Channels::Mono).unwrap();
    let mut heard = Vec::new();
    for (number, packet) in packets.iter().enumerate() {
        let next = packets.get(number + 1).and_then(Option::as_ref);
        let mut room = vec![0.0_f32; PACKET];
        let (payload, fec) = match (packet, next) {
            (Some(packet), _) => (Some(packet), false),
            (None, next) => (next, next.is_some()),
        };
        let payload = payload.map(|payload| Packet::try_from(payload.as_slice()).unwrap());
        decoder.decode_float(payload, MutSignals::try_from(&mut room).unwrap(), fec).unwrap();
        heard.extend(room);
    }
    resampled(&heard, 48_000, cell.rate)
}
