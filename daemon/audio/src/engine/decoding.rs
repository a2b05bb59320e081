//! From what the jitter buffer gives, in order, to sound: decoders, what is made up in the place of missing packets, and the
//! noise of a sender's pause. It knows neither addresses nor when packets came.

use crate::codec::Decoder;
use crate::comfort::{Description, Generator};
use crate::engine::effort::Effort;
use crate::engine::playout::Playout;
use crate::engine::port::frame_len;
use crate::engine::redundancy::Reach;
use crate::jitter::{Later, Next};
use crate::plan::{Codec, ReceiveKind, StreamCounters};

/// So much of a gap is made up as well as can be while nothing explains it, in microseconds. Most that are longer are pauses
/// of the sender's, whose noise is as good the cheap way.
const WORTH_US: u64 = 60_000;

/// What each payload type means.
pub(crate) type Meanings = [Option<ReceiveKind>; 128];

/// The decoders of a stream and the sound that they gave last.
#[repr(C)]
pub(crate) struct Decoding {
    /// Of what was decoded last.
    codec: Option<Codec>,
    /// Samples of the packet decoded last.
    last_duration: usize,
    pub(crate) playout: Playout,
    /// What was made up last is not the decoder's: it stands where it did before.
    beside: bool,
    /// What a pause sounds like.
    noise: Generator,
    /// The sender has told of a pause, and not spoken since.
    in_pause: bool,
    played_us: u64,
    concealed_us: u64,
    /// Made up while nothing came. The next packet tells whether anything was missing, or the sender had paused.
    unexplained_us: u64,
    /// Silence after that, when too much time had passed to make anything up.
    silent_us: u64,
    /// Packets that others have brought back, by FEC or a description.
    corrected: u64,
    pub(crate) decoders: [Option<Decoder>; Codec::COUNT],
}

impl Decoding {
    /// Control thread. `rate`: of the codec that is most likely to come, in hertz.
    pub(crate) fn new(rate: u32) -> Self {
        Decoding {
            decoders: [const { None }; Codec::COUNT],
            codec: None,
            last_duration: 2 * frame_len(rate),
            playout: Playout::new(rate),
            beside: false,
            noise: Generator::default(),
            in_pause: false,
            played_us: 0,
            concealed_us: 0,
            unexplained_us: 0,
            silent_us: 0,
            corrected: 0,
        }
    }

    /// That of a codec which the plan names.
    pub(crate) fn decoder(&self, codec: Codec) -> Option<&Decoder> {
        self.decoders.get(codec.index())?.as_ref()
    }

    /// How far back a packet of this codec and length helps to restore what is lost.
    pub(crate) fn reach(&mut self, codec: Codec, payload: &[u8], duration: u32) -> Reach {
        let decoder = self.decoders.get_mut(codec.index()).and_then(Option::as_mut);
        decoder.map_or(Reach::default(), |decoder| {
            let helps = decoder.carries_fec(payload) || decoder.looks_ahead();
            let units = decoder.described(payload) as u64 * u64::from(codec.clock_rate());
            let coarse = (units / u64::from(codec.sample_rate())) as u32;
            Reach { whole: if helps { duration } else { 0 }, coarse }
        })
    }

    /// Forgets what was played.
    pub(crate) fn begin(&mut self) {
        (self.in_pause, self.unexplained_us, self.silent_us) = (false, 0, 0);
        self.playout.clear(self.playout.rate());
        (self.codec, self.beside) = (None, false);
    }

    /// Whether anything that the sender gave has been played since the beginning.
    pub(crate) fn has_begun(&self) -> bool {
        self.codec.is_some() || self.in_pause
    }

    /// Writes what was played into the stream's counters.
    pub(crate) fn count(&self, counters: &mut StreamCounters) {
        counters.frames_played = self.played_us / 10_000;
        counters.frames_concealed = self.concealed_us / 10_000;
        counters.packets_corrected = self.corrected;
        counters.receive_codec = self.codec.map_or(0, |codec| codec.index() as u8 + 1);
    }

    /// Adds the sound of what the jitter buffer gives. `in_event`: the sender sends a telephone event, and no sound.
    pub(crate) fn play(&mut self, next: Next<'_>, meanings: &Meanings, in_event: bool, effort: &mut Effort) {
        effort.next_gap();
        match next {
            Next::Packet { payload_type, payload, skip, duration, paused, missing } => {
                self.explain(paused, missing / 1000);
                let meaning = meanings.get(usize::from(payload_type)).copied().flatten();
                if let Some(ReceiveKind::ComfortNoise(_)) = meaning {
                    let description = Description::read(payload);
                    return self.pause(description);
                }
                // It was good when it came; a new plan may have no place for it.
                let Some(ReceiveKind::Audio(codec)) = meaning else { return self.playout.silence_frame() };
                let Some(Some(decoder)) = self.decoders.get_mut(codec.index()) else {
                    return self.playout.silence_frame();
                };
                if self.codec != Some(codec) {
                    // What is left of the codec before is played at the rate of this one, and fades over into it.
                    decoder.reset();
                    self.playout.set_rate(codec.sample_rate());
                    if self.codec.is_some() {
                        self.playout.bridge(10);
                    }
                    self.codec = Some(codec);
                    self.last_duration = 2 * frame_len(self.playout.rate());
                }
                let rate = self.playout.rate();
                if std::mem::take(&mut self.in_pause) {
                    // The noise fades out under the first word.
                    self.playout.bridge(10);
                }
                if std::mem::take(&mut self.beside) || skip > 0 && skip < duration {
                    // What was made up fades out where the packet's sound takes over in its midst.
                    self.playout.bridge(5);
                }
                match decoder.decode(payload, self.playout.room()) {
                    Ok(samples) if samples > 0 => {
                        self.last_duration = samples;
                        let skipped = (skip * u64::from(rate) / 1_000_000_000) as usize;
                        let added = self.playout.add_behind(skipped, samples);
                        self.played_us += duration_us(added, rate);
                    }
                    _ => {
                        let made = conceal(decoder, &mut self.playout, frame_len(rate), Some(effort));
                        self.concealed_us += duration_us(made, rate);
                    }
                }
            }
            _ if self.in_pause => self.noise_frame(),
            Next::Silence => {
                if self.codec.is_some() && !in_event {
                    self.silent_us += 10_000;
                }
                self.playout.silence_frame();
            }
            Next::Lost { .. } if in_event => self.playout.silence(self.last_duration),
            Next::Empty if in_event => self.playout.silence(frame_len(self.playout.rate())),
            missing => {
                let empty = matches!(missing, Next::Empty);
                if !empty {
                    self.explain(false, 0);
                }
                let rate = self.playout.rate();
                let decoder = self.codec.and_then(|codec| self.decoders.get_mut(codec.index())?.as_mut());
                let Some(decoder) = decoder else { return self.playout.silence_frame() };
                let beside = std::mem::take(&mut self.beside);
                if empty && self.unexplained_us == 0 && decoder.is_moved_by_concealment() {
                    // A packet that is a little late still finds the decoder as it left it.
                    self.beside = true;
                    self.unexplained_us += 10_000;
                    return self.playout.go_on();
                }
                if beside {
                    self.playout.bridge(5);
                }
                let length = match missing {
                    Next::Lost { later } => {
                        // A packet of another codec would be noise to this decoder.
                        let meaning = meanings.get(usize::from(later.payload_type)).copied().flatten();
                        let room = self.playout.room().get_mut(..self.last_duration).unwrap_or_default();
                        let found = (meaning == self.codec.map(ReceiveKind::Audio))
                            .then(|| recover(decoder, &later, rate, room, effort))
                            .flatten();
                        if let Some((samples, told)) = found {
                            self.playout.add(samples);
                            match told {
                                true => self.played_us += duration_us(samples, rate),
                                false => self.concealed_us += duration_us(samples, rate),
                            }
                            self.corrected += u64::from(told);
                            return;
                        }
                        self.last_duration
                    }
                    _ => frame_len(rate),
                };
                let effort = (!empty || self.unexplained_us < WORTH_US).then_some(effort);
                let made = duration_us(conceal(decoder, &mut self.playout, length, effort), rate);
                match empty {
                    true => self.unexplained_us += made,
                    false => self.concealed_us += made,
                }
            }
        }
    }

    /// What was made up while nothing came was a pause of the sender's, or stood for what was missing. Of the silence
    /// after that, as much did as packets are missing; the rest was a pause, of which nobody knows how it sounded.
    fn explain(&mut self, paused: bool, missing_us: u64) {
        let made = std::mem::take(&mut self.unexplained_us);
        let silent = std::mem::take(&mut self.silent_us);
        match paused {
            true => self.played_us += made,
            false => self.concealed_us += made + silent.min(missing_us.saturating_sub(made)),
        }
    }

    /// The sender has told what its pause sounds like.
    fn pause(&mut self, description: Option<Description>) {
        if let Some(description) = description {
            if self.in_pause {
                self.noise.describe(description);
            } else {
                self.noise.restart(description);
                self.in_pause = true;
                if self.codec.is_some() {
                    // The last word fades out under the noise.
                    self.playout.bridge(10);
                }
            }
        }
        self.noise_frame();
    }

    /// Adds the noise of the pause up to one frame.
    fn noise_frame(&mut self) {
        let count = frame_len(self.playout.rate()).saturating_sub(self.playout.len());
        let room = self.playout.room().get_mut(..count).unwrap_or_default();
        self.noise.fill(room);
        let count = room.len();
        self.playout.add(count);
        self.played_us += duration_us(count, self.playout.rate());
    }
}

/// Length of so many samples in microseconds.
fn duration_us(samples: usize, rate: u32) -> u64 {
    samples as u64 * 1_000_000 / u64::from(rate.max(1))
}

/// Fills `room` with a lost packet's sound by what a `later` packet tells of it, or by what lies on both sides of it; answers
/// how many samples that is, and whether the sender has told of them. `None`: nothing was touched, there is no such way.
fn recover(
    decoder: &mut Decoder,
    later: &Later<'_>,
    rate: u32,
    room: &mut [f32],
    effort: &mut Effort,
) -> Option<(usize, bool)> {
    let next = later.distance == 0;
    if next && let Some(samples) = decoder.decode_fec(later.payload, room).filter(|samples| *samples > 0) {
        return Some((samples, true));
    }
    let before = room.len() + (later.distance * u64::from(rate) / 1_000_000_000) as usize;
    if decoder.described(later.payload) > 0
        && effort.take(decoder.better_concealment_work(room.len()))
        && let Some(samples) = decoder.decode_description(later.payload, before, room)
    {
        return Some((samples, true));
    }
    let work = if next { decoder.interpolation_work(room.len()) } else { 0 };
    let samples =
        (work > 0 && effort.take(work)).then(|| decoder.interpolate(later.payload, room)).flatten()?;
    Some((samples, false))
}

/// Makes up `length` samples, in frames of 10 ms; answers how many. `effort`: where it is worth any, and then as well as
/// there is room for.
fn conceal(
    decoder: &mut Decoder,
    playout: &mut Playout,
    length: usize,
    effort: Option<&mut Effort>,
) -> usize {
    let frame = frame_len(playout.rate());
    let work = decoder.better_concealment_work(length);
    let better = work > 0 && effort.is_some_and(|effort| effort.take(work));
    let mut made = 0;
    while made < length {
        let samples = frame.min(length - made);
        let Some(room) = playout.room().get_mut(..samples) else { break };
        match better {
            true => decoder.conceal_better(room),
            false => decoder.conceal(room),
        }
        playout.add(samples);
        made += samples;
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Encoder, EncoderSettings};
    use crate::engine::load::FULL_COMPLEXITY;
    use crate::plan::EngineCounters;

    const OPUS: u8 = 96;
    /// 20 ms of Opus.
    const SILENCE: [u8; 3] = [0xf8, 0xff, 0xfe];

    /// A packet has been played.
    fn begun() -> Decoding {
        let mut decoding = Decoding::new(48_000);
        decoding.decoders[Codec::Opus.index()] = Some(Decoder::new(Codec::Opus).unwrap());
        play(&mut decoding, packet(&SILENCE), FULL_COMPLEXITY);
        decoding
    }

    fn packet(payload: &[u8]) -> Next<'_> {
        Next::Packet { payload_type: OPUS, payload, duration: 20_000_000, skip: 0, paused: false, missing: 0 }
    }

    fn meanings() -> Meanings {
        let mut meanings: Meanings = [None; 128];
        meanings[usize::from(OPUS)] = Some(ReceiveKind::Audio(Codec::Opus));
        meanings
    }

    /// A tick that has `next` to play; answers what it has counted.
    fn play(decoding: &mut Decoding, next: Next<'_>, complexity: u8) -> EngineCounters {
        let (mut effort, mut counters) = (Effort::default(), EngineCounters::default());
        effort.begin(complexity);
        decoding.play(next, &meanings(), false, &mut effort);
        effort.count(&mut counters);
        let mut played = vec![0.0; decoding.playout.len()];
        decoding.playout.take(&mut played);
        counters
    }

    #[test]
    fn a_packet_that_the_decoder_refuses_is_made_up_out_of_the_ticks_effort() {
        let mut decoding = begun();
        let work = decoding.decoder(Codec::Opus).unwrap().better_concealment_work(480);
        assert_eq!(play(&mut decoding, packet(&[]), FULL_COMPLEXITY).most_gap_work, work);
        let counters = play(&mut decoding, packet(&[]), 0);
        assert_eq!((counters.most_gap_work, counters.gaps_spared), (0, u64::from(work > 0)));
    }

    #[test]
    fn only_the_first_frame_of_a_gap_is_made_up_beside_the_decoder() {
        let mut encoder = Encoder::new(EncoderSettings::new(Codec::Opus, 5)).unwrap();
        let mut decoding = begun();
        let mut alone = Decoder::new(Codec::Opus).unwrap();
        let mut room = [0.0; 960];
        alone.decode(&SILENCE, &mut room).unwrap();
        for number in 0..10 {
            let voice: Vec<f32> =
                (0..960).map(|n| 0.3 * ((number * 960 + n) as f32 * 0.0262).sin()).collect();
            let mut payload = [0; 400];
            let octets = encoder.encode(&voice, &mut payload).unwrap();
            play(&mut decoding, packet(&payload[..octets]), 0);
            alone.decode(&payload[..octets], &mut room).unwrap();
        }
        for frame in 0..8 {
            let (mut effort, mut made) = (Effort::default(), [0.0; 480]);
            effort.begin(0);
            decoding.play(Next::Empty, &meanings(), false, &mut effort);
            decoding.playout.take(&mut made);
            if frame > 0 {
                alone.conceal(&mut room[..480]);
            }
            // The second one takes over within 5 ms.
            if frame > 1 {
                assert_eq!(made, room[..480], "frame {frame}");
            }
        }
    }

    #[test]
    fn a_long_pause_costs_effort_at_its_beginning_only() {
        let mut decoding = begun();
        let work = decoding.decoder(Codec::Opus).unwrap().better_concealment_work(480);
        let pause = |decoding: &mut Decoding| -> Vec<u64> {
            (0..40).map(|_| play(decoding, Next::Empty, FULL_COMPLEXITY).most_gap_work).collect()
        };
        // A packet that tells of the pause going on comes in between.
        for _ in 0..2 {
            let paid = pause(&mut decoding);
            assert!(paid[..6].contains(&work) && paid[6..].iter().all(|work| *work == 0), "{paid:?}");
            play(&mut decoding, packet(&SILENCE), FULL_COMPLEXITY);
        }
        // What is known to be lost is worth it at any time.
        pause(&mut decoding);
        let later = Later { payload_type: OPUS, payload: &SILENCE, distance: 20_000_000 };
        let lost = play(&mut decoding, Next::Lost { later }, FULL_COMPLEXITY);
        assert_eq!(lost.most_gap_work, 2 * work);
    }
}
