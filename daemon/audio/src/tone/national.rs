//! The signals of national telephone networks: frequencies in hertz and cadences in milliseconds. Facts of ITU-T E.180
//! Supplement 2 ("Various tones used in national networks") and of the list of the same name that the ITU's Operational
//! Bulletin carries on; where a country has several, the one that it prefers.

use super::{Beat, Signal, Tone};

const FOREVER: u32 = Beat::FOREVER;

/// The signals of a country.
#[derive(Debug)]
pub struct Country {
    /// Two letters of ISO 3166, in lower case.
    pub iso: &'static str,
    /// Country code of telephone numbers (ITU-T E.164).
    pub code: &'static str,
    dial: &'static [Beat],
    ringback: &'static [Beat],
    busy: &'static [Beat],
    congestion: &'static [Beat],
    call_waiting: &'static [Beat],
}

impl PartialEq for Country {
    fn eq(&self, other: &Self) -> bool {
        self.iso == other.iso
    }
}

impl Eq for Country {}

/// Special information: three rising tones, a second of silence (ITU-T E.180 section 8, the same everywhere).
const INFORMATION: &[Beat] = &[on(950, 330), on(1400, 330), on(1800, 330), off(1000)];

impl Country {
    /// What ITU-T E.180 recommends, where it lets choose, the commonest.
    pub const RECOMMENDED: Country = Country {
        iso: "",
        code: "",
        dial: &[on(425, FOREVER)],
        ringback: &[on(425, 1000), off(4000)],
        busy: &[on(425, 500), off(500)],
        congestion: &[on(425, 250), off(250)],
        call_waiting: &[on(425, 200), off(200), on(425, 200), off(4000)],
    };

    /// All that are known, by their letters.
    pub const fn all() -> &'static [Country] {
        &COUNTRIES
    }

    /// By two letters of ISO 3166; `uk` is Great Britain, too.
    pub fn by_letters(letters: &str) -> Option<&'static Country> {
        let letters = if letters.eq_ignore_ascii_case("uk") { "gb" } else { letters };
        COUNTRIES.iter().find(|country| country.iso.eq_ignore_ascii_case(letters))
    }

    /// By the country code of telephone numbers.
    pub fn by_code(code: &str) -> Option<&'static Country> {
        COUNTRIES.iter().find(|country| country.code == code)
    }

    /// How this country tells it.
    pub const fn tone(&self, signal: Signal) -> Tone {
        match signal {
            Signal::Ring | Signal::Other => Tone::RING,
            Signal::Dial => Tone::of(signal, self.dial),
            Signal::Ringback => Tone::of(signal, self.ringback),
            Signal::Busy => Tone::of(signal, self.busy),
            Signal::Congestion => Tone::of(signal, self.congestion),
            // Softly: somebody is talking.
            Signal::CallWaiting => Tone { amplitude: 0.1, ..Tone::of(signal, self.call_waiting) },
            Signal::Information => Tone::of(signal, INFORMATION),
        }
    }
}

const fn on(hertz: u16, ms: u32) -> Beat {
    Beat::tone(hertz as f32, ms)
}

const fn pair(first: u16, second: u16, ms: u32) -> Beat {
    Beat::pair(first as f32, second as f32, ms)
}

const fn swing(hertz: u16, modulation: u16, ms: u32) -> Beat {
    Beat::modulated(hertz as f32, modulation as f32, ms)
}

const fn off(ms: u32) -> Beat {
    Beat::silence(ms)
}

static COUNTRIES: [Country; 40] = [
    Country {
        iso: "at",
        code: "43",
        dial: &[on(420, FOREVER)],
        ringback: &[on(420, 1000), off(5000)],
        busy: &[on(420, 400), off(400)],
        congestion: &[on(420, 200), off(200)],
        call_waiting: &[on(420, 40), off(1960)],
    },
    Country {
        iso: "au",
        code: "61",
        dial: &[pair(413, 438, FOREVER)],
        ringback: &[pair(413, 438, 400), off(200), pair(413, 438, 400), off(2000)],
        busy: &[on(425, 375), off(375)],
        congestion: &[on(425, 375), off(375)],
        call_waiting: &[on(425, 200), off(200), on(425, 200), off(4400)],
    },
    Country {
        iso: "be",
        code: "32",
        dial: &[on(425, FOREVER)],
        ringback: &[on(425, 1000), off(3000)],
        busy: &[on(425, 500), off(500)],
        congestion: &[on(425, 167), off(167)],
        call_waiting: &[on(1400, 175), off(175), on(1400, 175), off(3500)],
    },
    Country {
        iso: "bg",
        code: "359",
        dial: &[on(425, FOREVER)],
        ringback: &[on(425, 1000), off(4000)],
        busy: &[on(425, 500), off(500)],
        congestion: &[on(425, 250), off(250)],
        call_waiting: &[on(425, 150), off(150), on(425, 150), off(4000)],
    },
    Country {
        iso: "br",
        code: "55",
        dial: &[on(425, FOREVER)],
        ringback: &[on(425, 1000), off(4000)],
        busy: &[on(425, 250), off(250)],
        congestion: &[on(425, 250), off(250), on(425, 750), off(250)],
        call_waiting: &[on(425, 50), off(1000)],
    },
    Country {
        iso: "ch",
        code: "41",
        dial: &[on(425, FOREVER)],
        ringback: &[on(425, 1000), off(4000)],
        busy: &[on(425, 500), off(500)],
        congestion: &[on(425, 200), off(200)],
        call_waiting: &[on(425, 200), off(200), on(425, 200), off(4000)],
    },
    Country {
        iso: "cl",
        code: "56",
        dial: &[on(400, FOREVER)],
        ringback: &[on(400, 1000), off(3000)],
        busy: &[on(400, 500), off(500)],
        congestion: &[on(400, 200), off(200)],
        call_waiting: &[on(400, 250), off(8750)],
    },
    Country {
        iso: "cn",
        code: "86",
        dial: &[on(450, FOREVER)],
        ringback: &[on(450, 1000), off(4000)],
        busy: &[on(450, 350), off(350)],
        congestion: &[on(450, 700), off(700)],
        call_waiting: &[on(450, 400), off(4000)],
    },
    Country {
        iso: "cz",
        code: "420",
        dial: &[on(425, 330), off(330), on(425, 660), off(660)],
        ringback: &[on(425, 1000), off(4000)],
        busy: &[on(425, 330), off(330)],
        congestion: &[on(425, 165), off(165)],
        call_waiting: &[on(425, 330), off(9000)],
    },
    Country {
        iso: "de",
        code: "49",
        dial: &[on(425, FOREVER)],
        ringback: &[on(425, 1000), off(4000)],
        busy: &[on(425, 480), off(480)],
        congestion: &[on(425, 240), off(240)],
        call_waiting: &[on(425, 200), off(200), on(425, 200), off(5000)],
    },
    Country {
        iso: "dk",
        code: "45",
        dial: &[on(425, FOREVER)],
        ringback: &[on(425, 1000), off(4000)],
        busy: &[on(425, 500), off(500)],
        congestion: &[on(425, 200), off(200)],
        call_waiting: &[on(425, 200), off(600), on(425, 200), off(3000)],
    },
    Country {
        iso: "ee",
        code: "372",
        dial: &[on(425, FOREVER)],
        ringback: &[on(425, 1000), off(4000)],
        busy: &[on(425, 300), off(300)],
        congestion: &[on(425, 200), off(200)],
        call_waiting: &[on(950, 650), off(325), on(950, 325), off(30), on(1400, 1300), off(2600)],
    },
    Country {
        iso: "es",
        code: "34",
        dial: &[on(425, FOREVER)],
        ringback: &[on(425, 1500), off(3000)],
        busy: &[on(425, 200), off(200)],
        congestion: &[on(425, 200), off(200), on(425, 200), off(200), on(425, 200), off(600)],
        call_waiting: &[on(425, 175), off(175), on(425, 175), off(3500)],
    },
    Country {
        iso: "fi",
        code: "358",
        dial: &[on(425, FOREVER)],
        ringback: &[on(425, 1000), off(4000)],
        busy: &[on(425, 300), off(300)],
        congestion: &[on(425, 200), off(200)],
        call_waiting: &[on(425, 150), off(150), on(425, 150), off(8000)],
    },
    Country {
        iso: "fr",
        code: "33",
        dial: &[on(440, FOREVER)],
        ringback: &[on(440, 1500), off(3500)],
        busy: &[on(440, 500), off(500)],
        congestion: &[on(440, 250), off(250)],
        call_waiting: &[on(440, 300), off(10000)],
    },
    Country {
        iso: "gb",
        code: "44",
        dial: &[pair(350, 440, FOREVER)],
        ringback: &[pair(400, 450, 400), off(200), pair(400, 450, 400), off(2000)],
        busy: &[on(400, 375), off(375)],
        congestion: &[on(400, 400), off(350), on(400, 225), off(525)],
        call_waiting: &[on(400, 100), off(4000)],
    },
    Country {
        iso: "gr",
        code: "30",
        dial: &[on(425, 200), off(300), on(425, 700), off(800)],
        ringback: &[on(425, 1000), off(4000)],
        busy: &[on(425, 300), off(300)],
        congestion: &[on(425, 200), off(200)],
        call_waiting: &[on(425, 150), off(150), on(425, 150), off(8000)],
    },
    Country {
        iso: "hu",
        code: "36",
        dial: &[on(425, FOREVER)],
        ringback: &[on(425, 1250), off(3750)],
        busy: &[on(425, 300), off(300)],
        congestion: &[on(425, 300), off(300)],
        call_waiting: &[on(425, 40), off(1960)],
    },
    Country {
        iso: "id",
        code: "62",
        dial: &[on(425, FOREVER)],
        ringback: &[on(425, 1000), off(4000)],
        busy: &[on(425, 500), off(500)],
        congestion: &[on(425, 250), off(250)],
        call_waiting: &[on(425, 150), off(150), on(425, 150), off(10000)],
    },
    Country {
        iso: "il",
        code: "972",
        dial: &[on(414, FOREVER)],
        ringback: &[on(414, 1000), off(3000)],
        busy: &[on(414, 500), off(500)],
        congestion: &[on(414, 250), off(250)],
        call_waiting: &[on(414, 100), off(100), on(414, 100), off(100), on(414, 600), off(3000)],
    },
    Country {
        iso: "in",
        code: "91",
        dial: &[swing(400, 25, FOREVER)],
        ringback: &[swing(400, 25, 400), off(200), swing(400, 25, 400), off(2000)],
        busy: &[on(400, 750), off(750)],
        congestion: &[on(400, 250), off(250)],
        call_waiting: &[on(400, 200), off(100), on(400, 200), off(7500)],
    },
    Country {
        iso: "it",
        code: "39",
        dial: &[on(425, 200), off(200), on(425, 600), off(1000)],
        ringback: &[on(425, 1000), off(4000)],
        busy: &[on(425, 500), off(500)],
        congestion: &[on(425, 200), off(200)],
        call_waiting: &[on(425, 400), off(100), on(425, 250), off(100), on(425, 150), off(14000)],
    },
    Country {
        iso: "jp",
        code: "81",
        dial: &[on(400, FOREVER)],
        ringback: &[swing(400, 16, 1000), off(2000)],
        busy: &[on(400, 500), off(500)],
        congestion: &[on(400, 500), off(500)],
        call_waiting: &[swing(400, 16, 500), off(8000)],
    },
    Country {
        iso: "lt",
        code: "370",
        dial: &[on(425, FOREVER)],
        ringback: &[on(425, 1000), off(4000)],
        busy: &[on(425, 350), off(350)],
        congestion: &[on(425, 200), off(200)],
        call_waiting: &[on(425, 150), off(150), on(425, 150), off(4000)],
    },
    Country {
        iso: "mx",
        code: "52",
        dial: &[on(425, FOREVER)],
        ringback: &[on(425, 1000), off(4000)],
        busy: &[on(425, 250), off(250)],
        congestion: &[on(425, 250), off(250)],
        call_waiting: &[on(425, 200), off(600), on(425, 200), off(10000)],
    },
    Country {
        iso: "my",
        code: "60",
        dial: &[on(425, FOREVER)],
        ringback: &[on(425, 400), off(200), on(425, 400), off(2000)],
        busy: &[on(425, 500), off(500)],
        congestion: &[on(425, 500), off(500)],
        call_waiting: &[on(425, 200), off(200), on(425, 200), off(4000)],
    },
    Country {
        iso: "nl",
        code: "31",
        dial: &[on(425, FOREVER)],
        ringback: &[on(425, 1000), off(4000)],
        busy: &[on(425, 500), off(500)],
        congestion: &[on(425, 250), off(250)],
        call_waiting: &[on(425, 500), off(9500)],
    },
    Country {
        iso: "no",
        code: "47",
        dial: &[on(425, FOREVER)],
        ringback: &[on(425, 1000), off(4000)],
        busy: &[on(425, 500), off(500)],
        congestion: &[on(425, 200), off(200)],
        call_waiting: &[on(425, 200), off(600), on(425, 200), off(10000)],
    },
    Country {
        iso: "nz",
        code: "64",
        dial: &[on(400, FOREVER)],
        ringback: &[pair(400, 450, 400), off(200), pair(400, 450, 400), off(2000)],
        busy: &[on(400, 500), off(500)],
        congestion: &[on(400, 250), off(250)],
        call_waiting: &[on(400, 200), off(3000)],
    },
    Country {
        iso: "ph",
        code: "63",
        dial: &[on(425, FOREVER)],
        ringback: &[pair(425, 480, 1000), off(4000)],
        busy: &[pair(480, 620, 500), off(500)],
        congestion: &[pair(480, 620, 250), off(250)],
        call_waiting: &[on(440, 300), off(10000)],
    },
    Country {
        iso: "pl",
        code: "48",
        dial: &[on(425, FOREVER)],
        ringback: &[on(425, 1000), off(4000)],
        busy: &[on(425, 500), off(500)],
        congestion: &[on(425, 500), off(500)],
        call_waiting: &[on(425, 150), off(150), on(425, 150), off(4000)],
    },
    Country {
        iso: "pt",
        code: "351",
        dial: &[on(425, FOREVER)],
        ringback: &[on(425, 1000), off(5000)],
        busy: &[on(425, 500), off(500)],
        congestion: &[on(425, 200), off(200)],
        call_waiting: &[on(425, 200), off(200), on(425, 200), off(5000)],
    },
    Country {
        iso: "ru",
        code: "7",
        dial: &[on(425, FOREVER)],
        ringback: &[on(425, 1000), off(4000)],
        busy: &[on(425, 350), off(350)],
        congestion: &[on(425, 175), off(175)],
        call_waiting: &[on(425, 200), off(5000)],
    },
    Country {
        iso: "se",
        code: "46",
        dial: &[on(425, FOREVER)],
        ringback: &[on(425, 1000), off(5000)],
        busy: &[on(425, 250), off(250)],
        congestion: &[on(425, 250), off(750)],
        call_waiting: &[on(425, 200), off(500), on(425, 200), off(9100)],
    },
    Country {
        iso: "sg",
        code: "65",
        dial: &[on(425, FOREVER)],
        ringback: &[swing(425, 24, 400), off(200), swing(425, 24, 400), off(2000)],
        busy: &[on(425, 750), off(750)],
        congestion: &[on(425, 250), off(250)],
        call_waiting: &[swing(425, 24, 300), off(200), swing(425, 24, 300), off(3200)],
    },
    Country {
        iso: "th",
        code: "66",
        dial: &[swing(400, 50, FOREVER)],
        ringback: &[on(400, 1000), off(4000)],
        busy: &[on(400, 500), off(500)],
        congestion: &[on(400, 300), off(300)],
        call_waiting: &[on(400, 200), off(200), on(400, 200), off(4000)],
    },
    Country {
        iso: "tw",
        code: "886",
        dial: &[pair(350, 440, FOREVER)],
        ringback: &[pair(440, 480, 1000), off(2000)],
        busy: &[pair(480, 620, 500), off(500)],
        congestion: &[pair(480, 620, 250), off(250)],
        call_waiting: &[pair(350, 440, 250), off(250), pair(350, 440, 250), off(3250)],
    },
    Country {
        iso: "us",
        code: "1",
        dial: &[pair(350, 440, FOREVER)],
        ringback: &[pair(440, 480, 2000), off(4000)],
        busy: &[pair(480, 620, 500), off(500)],
        congestion: &[pair(480, 620, 250), off(250)],
        call_waiting: &[on(440, 300), off(10000)],
    },
    Country {
        iso: "ve",
        code: "58",
        dial: &[on(425, FOREVER)],
        ringback: &[on(425, 1000), off(4000)],
        busy: &[on(425, 500), off(500)],
        congestion: &[on(425, 250), off(250)],
        call_waiting: &[pair(400, 450, 300), off(6000)],
    },
    Country {
        iso: "za",
        code: "27",
        dial: &[swing(400, 33, FOREVER)],
        ringback: &[swing(400, 33, 400), off(200), swing(400, 33, 400), off(2000)],
        busy: &[on(400, 500), off(500)],
        congestion: &[on(400, 250), off(250)],
        call_waiting: &[swing(400, 33, 250), off(250), swing(400, 33, 250), off(4000)],
    },
];
