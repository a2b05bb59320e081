//! The E-model (ITU-T G.107): how good a conversation is, from what is known of its path. Narrow band, with the
//! recommendation's default values for all that a telephone cannot know (loudness, room noise, side tone, echo).

/// What the codec alone costs, and how well it bears loss (ITU-T G.113 appendix I).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Impairment {
    /// Equipment impairment factor Ie without loss.
    pub ie: f64,
    /// Packet-loss robustness factor Bpl, with concealment.
    pub bpl: f64,
}

impl Impairment {
    /// Of a codec by its encoding name in SDP, in any case. G.113 has G.711 with concealment, G.729A, GSM full rate and
    /// G.726. For those that it does not have, and for unknown ones: no impairment on a narrow-band scale, and G.711's
    /// robustness for waveform codecs, that of G.729A for Opus and Speex, which rebuild sound from a model as it does.
    #[must_use]
    pub fn of(encoding_name: &str) -> Self {
        let (ie, bpl) = match encoding_name.to_ascii_lowercase().as_str() {
            "g729" => (11.0, 19.0),
            "gsm" => (20.0, 43.0),
            "g726-32" | "aal2-g726-32" => (7.0, 25.1),
            "speex" => (11.0, 19.0),
            "opus" => (0.0, 19.0),
            _ => (0.0, 25.1),
        };
        Impairment { ie, bpl }
    }
}

/// What the E-model is told. [`Path::default`] has the default values of G.107 table 2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Path {
    /// Of the codec.
    pub codec: Impairment,
    /// Ppl: packets that are not played, in per cent.
    pub loss_percent: f64,
    /// BurstR: mean length of a run of losses, against that of random losses at the same rate; 1: random.
    pub burst_ratio: f64,
    /// Ta: mouth to ear, in milliseconds.
    pub delay_ms: f64,
    /// T: mean one-way delay of the echo path, in milliseconds.
    pub echo_delay_ms: f64,
    /// TELR: talker echo loudness rating, in dB.
    pub echo_loss_db: f64,
    /// Tr: round trip in the four-wire loop, in milliseconds.
    pub loop_ms: f64,
}

impl Default for Path {
    fn default() -> Self {
        Path {
            codec: Impairment { ie: 0.0, bpl: 4.3 },
            loss_percent: 0.0,
            burst_ratio: 1.0,
            delay_ms: 0.0,
            echo_delay_ms: 0.0,
            echo_loss_db: 65.0,
            loop_ms: 0.0,
        }
    }
}

/// Default values of G.107 table 2, in its names.
const SLR: f64 = 8.0;
const RLR: f64 = 2.0;
const STMR: f64 = 15.0;
const LSTR: f64 = 18.0;
const DS: f64 = 3.0;
const WEPL: f64 = 110.0;
const QDU: f64 = 1.0;
const NC: f64 = -70.0;
const NFOR: f64 = -64.0;
const PS: f64 = 35.0;
const PR: f64 = 35.0;
/// Ta below which delay does no harm, in milliseconds, and how steeply it does above (default class of users).
const MT: f64 = 100.0;
const ST: f64 = 1.0;

/// The transmission rating factor R of G.107 equation 7-1: 0 to 100 in practice; 93.2 with default values.
#[must_use]
pub fn rating(path: &Path) -> f64 {
    let no = power_sum(&[NC, circuit_noise_of_sender(), circuit_noise_of_receiver(), NFOR + RLR]);
    let ro = 15.0 - 1.5 * (SLR + no);
    ro - simultaneous(ro, no, path) - delay(ro, no, path) - equipment(path)
}

/// The mean opinion score that a rating stands for (G.107 annex B): 1.0 to 4.5.
#[must_use]
pub fn opinion(rating: f64) -> f64 {
    if rating.is_nan() || rating <= 0.0 {
        return 1.0;
    }
    let r = rating.min(100.0);
    // Near 0 the polynomial falls below 1.
    (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).clamp(1.0, 4.5)
}

/// BurstR from the mean length of a run of losses and the share of packets lost, 0 to 1.
#[must_use]
pub fn burst_ratio(mean_run: f64, lost: f64) -> f64 {
    // With random losses, a run is 1 / (1 - p) long. More evenly spread than at random counts as random.
    (mean_run * (1.0 - lost)).clamp(1.0, 20.0)
}

/// Sum of levels in dB.
fn power_sum(levels: &[f64]) -> f64 {
    10.0 * levels.iter().map(|level| 10_f64.powf(level / 10.0)).sum::<f64>().log10()
}

/// Nos of equation 7-4.
fn circuit_noise_of_sender() -> f64 {
    let olr = SLR + RLR;
    PS - SLR - DS - 100.0 + 0.004 * (PS - olr - DS - 14.0).powi(2)
}

/// Nor of equations 7-5 and 7-6.
fn circuit_noise_of_receiver() -> f64 {
    let pre = PR + 10.0 * (1.0 + 10_f64.powf((10.0 - LSTR) / 10.0)).log10();
    RLR - 121.0 + pre + 0.008 * (pre - 35.0).powi(2)
}

/// (1 + x^n)^(1/n).
fn knee(x: f64, n: f64) -> f64 {
    (1.0 + x.abs().powf(n)).powf(1.0 / n)
}

/// Ist of equations 7-9 and 7-10: side tone that is not optimal.
fn side_tone(path: &Path) -> f64 {
    let echo = 10_f64.powf(-path.echo_loss_db / 10.0) * (-path.echo_delay_ms / 4.0).exp();
    let stmr = -10.0 * (10_f64.powf(-STMR / 10.0) + echo).log10();
    12.0 * knee((stmr - 13.0) / 6.0, 8.0)
        - 28.0 * knee((stmr + 1.0) / 19.4, 35.0)
        - 13.0 * knee((stmr - 3.0) / 33.0, 13.0)
        + 29.0
}

/// Is of equations 7-7 to 7-17: what happens at the same time as speech.
fn simultaneous(ro: f64, no: f64, path: &Path) -> f64 {
    let x = (SLR + RLR + 0.2 * (64.0 + no - RLR)) / 8.0;
    let loudness = 20.0 * (knee(x, 8.0) - x);
    let q = 37.0 - 15.0 * QDU.log10();
    let g = 1.07 + 0.258 * q + 0.0602 * q * q;
    let (y, z) = ((ro - 100.0) / 15.0 + 46.0 / 8.4 - g / 9.0, 46.0 / 30.0 - g / 40.0);
    let quantizing = 15.0 * (1.0 + 10_f64.powf(y) + 10_f64.powf(z)).log10();
    loudness + side_tone(path) + quantizing
}

/// Id of equations 7-18 to 7-28: what comes late, echo among it.
fn delay(ro: f64, no: f64, path: &Path) -> f64 {
    let t = path.echo_delay_ms.max(0.0);
    let half_root = |distance: f64, add: f64| distance / 2.0 + (distance * distance / 4.0 + add).sqrt();
    let echo_rating = path.echo_loss_db - 40.0 * ((1.0 + t / 10.0) / (1.0 + t / 150.0)).log10()
        + 6.0 * (-0.3 * t * t).exp();
    let re = 80.0 + 2.5 * (echo_rating - 14.0);
    let talker = (half_root(-1.5 * (no - RLR) - re, 100.0) - 1.0) * (1.0 - (-t).exp());
    let rle = 10.5 * (WEPL + 7.0) * (path.loop_ms.max(0.0) + 1.0).powf(-0.25);
    let listener = half_root(ro - rle, 169.0);
    talker + listener + absolute_delay(path.delay_ms)
}

/// Idd of equation 7-27.
fn absolute_delay(ta: f64) -> f64 {
    if ta.is_nan() || ta <= MT {
        return 0.0;
    }
    let x = (ta / MT).log2();
    let n = 6.0 * ST;
    25.0 * (knee(x, n) - 3.0 * knee(x / 3.0, n) + 2.0)
}

/// Ie-eff of equation 7-29.
fn equipment(path: &Path) -> f64 {
    let Impairment { ie, bpl } = path.codec;
    let ppl = path.loss_percent.clamp(0.0, 100.0);
    ie + (95.0 - ie) * ppl / (ppl / path.burst_ratio.max(1.0) + bpl.max(0.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: f64, expected: f64, tolerance: f64) {
        assert!((value - expected).abs() <= tolerance, "{value} instead of {expected}");
    }

    #[test]
    fn default_values_give_the_published_rating() {
        // G.107 (06/2015) clause 7.7: R = 93.2; annex B: MOS 4.41.
        near(rating(&Path::default()), 93.2, 0.05);
        near(opinion(rating(&Path::default())), 4.41, 0.005);
    }

    #[test]
    fn opinions_are_those_of_annex_b() {
        // Table B.1.
        for (rating, mos) in [(90.0, 4.34), (80.0, 4.03), (70.0, 3.60), (60.0, 3.10), (50.0, 2.58)] {
            // It rounds some up.
            near(opinion(rating), mos, 0.007);
        }
        assert_eq!((opinion(-3.0), opinion(100.0), opinion(130.0), opinion(f64::NAN)), (1.0, 4.5, 4.5, 1.0));
    }

    #[test]
    fn codecs_cost_what_g_113_says() {
        let with = |name: &str, loss_percent: f64| {
            rating(&Path { codec: Impairment::of(name), loss_percent, ..Path::default() })
        };
        near(93.2 - with("G729", 0.0), 11.0, 0.05);
        near(93.2 - with("GSM", 0.0), 20.0, 0.05);
        assert_eq!(with("pcmu", 0.0), with("PCMA", 0.0));
        // Ie-eff = Ie + (95 - Ie) Ppl / (Ppl + Bpl) where losses are random.
        near(93.2 - with("PCMU", 10.0), 95.0 * 10.0 / 35.1, 0.05);
        near(93.2 - with("G729", 3.0), 11.0 + 84.0 * 3.0 / 22.0, 0.05);
    }

    #[test]
    fn bursts_are_worse_than_random_losses() {
        let with = |burst_ratio| rating(&Path { loss_percent: 3.0, burst_ratio, ..Path::default() });
        near(93.2 - with(1.0), 95.0 * 3.0 / (3.0 + 4.3), 0.05);
        near(93.2 - with(2.0), 95.0 * 3.0 / (1.5 + 4.3), 0.05);
        near(burst_ratio(1.25, 0.2), 1.0, 1e-9);
        near(burst_ratio(2.5, 0.2), 2.0, 1e-9);
        assert_eq!((burst_ratio(0.0, 0.0), burst_ratio(1e9, 0.5), burst_ratio(1.0, 1.0)), (1.0, 20.0, 1.0));
    }

    #[test]
    fn delay_does_harm_above_a_tenth_of_a_second() {
        let with = |delay_ms| 93.2 - rating(&Path { delay_ms, ..Path::default() });
        near(with(100.0), 0.0, 0.05);
        // X = 1 and X = 2 of equation 7-27.
        near(
            with(200.0),
            25.0 * (2_f64.powf(1.0 / 6.0) - 3.0 * (1.0 + 3_f64.powi(-6)).powf(1.0 / 6.0) + 2.0),
            0.05,
        );
        near(with(400.0), 24.1, 0.3);
        assert!(with(150.0) < 1.0 && with(250.0) > 8.0 && with(400.0) > with(300.0));
    }

    #[test]
    fn an_echo_that_comes_back_late_is_heard() {
        let with = |echo_loss_db| {
            rating(&Path {
                delay_ms: 150.0,
                echo_delay_ms: 150.0,
                loop_ms: 300.0,
                echo_loss_db,
                ..Path::default()
            })
        };
        assert!(with(65.0) > with(45.0) + 20.0, "{} {}", with(65.0), with(45.0));
        assert!(with(45.0) > with(35.0) + 10.0, "{} {}", with(45.0), with(35.0));
    }

    #[test]
    fn nothing_wild_comes_of_wild_figures() {
        for wild in [f64::NAN, f64::INFINITY, -1e9, 1e300] {
            let path = Path { loss_percent: wild, delay_ms: wild, burst_ratio: wild, ..Path::default() };
            let mos = opinion(rating(&path));
            assert!((1.0..=4.5).contains(&mos), "{wild}: {mos}");
        }
    }
}
