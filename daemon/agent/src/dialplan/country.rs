//! What is usual in a country: its prefixes and its emergency numbers. Facts only; an account's settings stand above
//! them.

/// How numbers are dialled in a country.
pub(super) struct Country {
    code: &'static str,
    /// What stands before a national number; empty where it is dialled as it is.
    pub(super) trunk: &'static str,
    /// Fewest digits of a national number behind the trunk prefix: what is shorter is an extension that begins alike.
    pub(super) behind_trunk: usize,
    /// What `+` stands for.
    pub(super) international: &'static str,
    /// Digits from which on a number without any prefix is a national one, where there are such.
    pub(super) national_digits: Option<usize>,
}

/// Everywhere else (ITU-T E.164 and E.123 recommend these).
const USUAL: Country =
    Country { code: "", trunk: "0", behind_trunk: 1, international: "00", national_digits: None };

const fn closed(code: &'static str, digits: usize) -> Country {
    Country { code, trunk: "", national_digits: Some(digits), ..USUAL }
}

/// Those that differ.
const COUNTRIES: [Country; 25] = [
    Country { code: "1", trunk: "1", behind_trunk: 10, international: "011", national_digits: Some(10) },
    Country { code: "7", trunk: "8", behind_trunk: 10, international: "810", ..USUAL },
    Country { code: "36", trunk: "06", ..USUAL },
    Country { code: "61", international: "0011", ..USUAL },
    Country { code: "66", international: "001", ..USUAL },
    Country { code: "81", international: "010", ..USUAL },
    Country { code: "852", trunk: "", international: "001", national_digits: Some(8), ..USUAL },
    Country { code: "65", trunk: "", international: "001", national_digits: Some(8), ..USUAL },
    closed("30", 10),
    closed("34", 9),
    closed("39", 8),
    closed("45", 8),
    closed("47", 8),
    closed("48", 9),
    closed("52", 10),
    closed("351", 9),
    closed("352", 6),
    closed("354", 7),
    closed("356", 8),
    closed("357", 8),
    closed("371", 8),
    closed("372", 7),
    closed("377", 8),
    closed("378", 8),
    closed("420", 9),
];

/// Emergency numbers besides [`EVERYWHERE`].
const EMERGENCY: [(&str, &[&str]); 41] = [
    ("7", &["101", "102", "103", "104"]),
    ("20", &["122", "123", "180"]),
    ("27", &["10111", "10177"]),
    ("30", &["100", "108", "166", "199"]),
    ("32", &["100", "101"]),
    ("33", &["15", "17", "18", "114", "196"]),
    ("34", &["062", "091"]),
    ("36", &["104", "105", "107"]),
    ("39", &["113", "115", "118"]),
    ("41", &["117", "118", "144", "1414"]),
    ("43", &["122", "133", "140", "144"]),
    ("44", &["999"]),
    ("47", &["110", "113"]),
    ("48", &["997", "998", "999"]),
    ("49", &["110"]),
    ("54", &["100", "101", "107"]),
    ("55", &["190", "192", "193"]),
    ("56", &["131", "132", "133"]),
    ("57", &["123"]),
    ("60", &["999"]),
    ("61", &["000", "106"]),
    ("62", &["110", "113", "118", "119"]),
    ("64", &["111"]),
    ("65", &["995", "999"]),
    ("66", &["191", "199", "1669"]),
    ("81", &["110", "118", "119"]),
    ("82", &["119"]),
    ("84", &["113", "114", "115"]),
    ("86", &["110", "119", "120", "122"]),
    ("91", &["100", "101", "102", "108"]),
    ("92", &["15", "1122"]),
    ("353", &["999"]),
    ("380", &["101", "102", "103"]),
    ("385", &["192", "193", "194"]),
    ("386", &["113"]),
    ("420", &["150", "155", "158"]),
    ("421", &["150", "155", "158"]),
    ("852", &["999"]),
    ("886", &["110", "119"]),
    ("971", &["997", "998", "999"]),
    ("972", &["100", "101", "102"]),
];

/// What every mobile network takes for an emergency call (3GPP TS 22.101 section 10.1.1).
const EVERYWHERE: [&str; 2] = ["112", "911"];

pub(super) fn country(code: &str) -> &'static Country {
    COUNTRIES.iter().find(|country| country.code == code).unwrap_or(&USUAL)
}

/// The emergency numbers of a country; without one, those that are understood everywhere.
pub(super) fn emergency(code: Option<&str>) -> impl Iterator<Item = &'static str> {
    let own = EMERGENCY.iter().find(|(country, _)| Some(*country) == code).map(|(_, numbers)| *numbers);
    EVERYWHERE.into_iter().chain(own.unwrap_or_default().iter().copied())
}
