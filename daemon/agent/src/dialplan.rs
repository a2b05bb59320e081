//! The dial plan: a number as a person writes it, made into the number that an account's server wants. It knows no URI.

mod country;
pub(crate) mod tel;

use std::fmt;
use std::str::FromStr;

/// Most digits of a number: E.164 has 15, and prefixes, access codes and star codes stand beside them.
const MAX_DIGITS: usize = 40;
/// Fewest digits of a number that the area code completes, where nothing else is said.
const LOCAL_DIGITS: u8 = 5;

/// How numbers are dialled from an account. The default sends each number as it was dialled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DialPlan {
    /// Country code without `+`: `49`. It brings the country's own prefixes and emergency numbers.
    pub country: Option<String>,
    /// Area code without trunk prefix: `30`. It completes local numbers.
    pub area: Option<String>,
    /// What stands before a national number; empty: nothing; `None`: as usual in the country.
    pub trunk_prefix: Option<String>,
    /// What `+` stands for; `None`: as usual in the country.
    pub international_prefix: Option<String>,
    /// What the exchange wants dialled before numbers that lead outside.
    pub outside_prefix: Option<String>,
    /// Fewest digits of a local number; shorter ones are extensions of the exchange. `None`: 5.
    pub local_digits: Option<u8>,
    /// Replacements at the beginning of what was dialled; the first that fits is made, once.
    pub rewrite: Vec<Rewrite>,
    /// How numbers are sent. `None`: with `+` where the country is known, national where there is an outside prefix
    /// too, else as dialled.
    pub format: Option<NumberFormat>,
    /// In which kind of URI numbers are sent.
    pub uri: NumberUri,
    /// Numbers that are never blocked or rewritten; `None`: those of the country.
    pub emergency: Option<Vec<String>>,
    /// Beginnings of numbers that are not called.
    pub blocked: Vec<String>,
}

/// How numbers are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberFormat {
    /// As they were dialled, without separators.
    Dialled,
    /// `+49301234567` (E.164).
    Plus,
    /// `0301234567`, and numbers of other countries with the international prefix.
    National,
}

/// In which kind of URI numbers are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NumberUri {
    /// `sip:NUMBER@SERVER`
    #[default]
    Sip,
    /// `sip:NUMBER@SERVER;user=phone` (RFC 3261 section 19.1.1)
    Phone,
    /// `tel:NUMBER` (RFC 3966), sent to the account's server
    Tel,
}

/// Replaces the beginning of a number, or a whole number. Written `FROM:TO`; `FROM$:TO` is for the whole number only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    from: String,
    whole: bool,
    to: String,
}

/// Why a text is no replacement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no replacement: write FROM:TO, such as 0049:0, or FROM$:TO for a whole number, such as 7$:+49301234567"
)]
pub struct RewriteError(String);

/// A number with its separators taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Number(String);

/// A number as it is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dialled {
    pub(crate) number: String,
    /// Nothing may stand in its way.
    pub(crate) emergency: bool,
}

/// The number begins with this blocked beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blocked(pub(crate) String);

impl DialPlan {
    /// Makes a number what the server wants.
    pub(crate) fn dial(&self, number: &Number) -> Result<Dialled, Blocked> {
        let typed = number.0.as_str();
        if self.is_emergency(typed) {
            return Ok(Dialled { number: typed.to_owned(), emergency: true });
        }
        let rewritten = self.rewritten(typed);
        if self.is_emergency(&rewritten) {
            return Ok(Dialled { number: rewritten, emergency: true });
        }
        let world = self.worldwide(&rewritten);
        self.refuse_blocked(&[typed, &rewritten], world.as_deref())?;
        Ok(Dialled { number: self.formatted(rewritten, world), emergency: false })
    }

    /// For a number that is sent as it is, since a whole address was given: is it an emergency number?
    pub(crate) fn check(&self, number: &Number) -> Result<bool, Blocked> {
        let typed = number.0.as_str();
        if self.is_emergency(typed) {
            return Ok(true);
        }
        self.refuse_blocked(&[typed], self.worldwide(typed).as_deref())?;
        Ok(false)
    }

    /// Local numbers within these first digits of E.164 are those that are dialled here: `+49`, `+4930`.
    pub(crate) fn is_here(&self, digits: &str) -> bool {
        let Some(country) = &self.country else { return false };
        let within = digits.strip_prefix('+').and_then(|digits| digits.strip_prefix(country.as_str()));
        within.is_some_and(|rest| rest.is_empty() || Some(rest) == self.area.as_deref())
    }

    /// An emergency number, alone or behind the outside prefix.
    fn is_emergency(&self, number: &str) -> bool {
        let inner = self.outside_prefix.as_deref().and_then(|prefix| number.strip_prefix(prefix));
        let is = |number: &str| match &self.emergency {
            Some(own) => own.iter().any(|emergency| emergency == number),
            None => country::emergency(self.country.as_deref()).any(|emergency| emergency == number),
        };
        is(number) || inner.is_some_and(is)
    }

    fn rewritten(&self, number: &str) -> String {
        self.rewrite.iter().find_map(|rule| rule.apply(number)).unwrap_or_else(|| number.to_owned())
    }

    /// The digits of the number's E.164 form, where the number has one and the plan knows it.
    fn worldwide(&self, number: &str) -> Option<String> {
        if number.contains(['*', '#']) {
            return None;
        }
        if let Some(digits) = number.strip_prefix('+') {
            return Some(digits.to_owned());
        }
        if let Some(digits) = self.known_international_prefix().and_then(|prefix| number.strip_prefix(prefix))
        {
            return Some(digits.to_owned()).filter(|digits| !digits.is_empty());
        }
        let country = self.country.as_deref()?;
        let (trunk, usual) = (self.trunk_prefix(), country::country(country));
        if let Some(national) =
            number.strip_prefix(trunk).filter(|rest| !trunk.is_empty() && rest.len() >= usual.behind_trunk)
        {
            return Some(format!("{country}{national}"));
        }
        if usual.national_digits.is_some_and(|digits| number.len() >= digits) {
            return Some(format!("{country}{number}"));
        }
        // Numbers that begin with 0 or 1 are services, not subscribers.
        let fewest = usize::from(self.local_digits.unwrap_or(LOCAL_DIGITS));
        let is_local = number.len() >= fewest && !number.starts_with(['0', '1']);
        let area = self.area.as_deref().filter(|_| is_local)?;
        Some(format!("{country}{area}{number}"))
    }

    fn formatted(&self, number: String, world: Option<String>) -> String {
        let format = self.format.unwrap_or(match (&self.country, &self.outside_prefix) {
            (None, _) => NumberFormat::Dialled,
            (Some(_), None) => NumberFormat::Plus,
            (Some(_), Some(_)) => NumberFormat::National,
        });
        let outside = self.outside_prefix.as_deref();
        let inner = match (format, &world) {
            (NumberFormat::Plus, Some(world)) if outside.is_none() => return format!("+{world}"),
            (NumberFormat::Plus | NumberFormat::National, Some(world)) => self.national(world),
            // Behind an outside prefix nobody understands `+`.
            (NumberFormat::Dialled, Some(world)) if outside.is_some() && number.starts_with('+') => {
                format!("{}{world}", self.international_prefix())
            }
            _ => number,
        };
        match outside.filter(|_| world.is_some()) {
            Some(prefix) => format!("{prefix}{inner}"),
            None => inner,
        }
    }

    /// As it is dialled within the country.
    fn national(&self, world: &str) -> String {
        match self.country.as_deref().and_then(|country| world.strip_prefix(country)) {
            Some(national) => format!("{}{national}", self.trunk_prefix()),
            None => format!("{}{world}", self.international_prefix()),
        }
    }

    /// Blocked is what begins so in any of the ways to write it.
    fn refuse_blocked(&self, written: &[&str], world: Option<&str>) -> Result<(), Blocked> {
        let mut ways: Vec<String> = written.iter().map(|way| (*way).to_owned()).collect();
        if let Some(world) = world {
            ways.push(format!("+{world}"));
            ways.push(self.national(world));
        }
        let begins = |prefix: &&String| ways.iter().any(|way| way.starts_with(prefix.as_str()));
        match self.blocked.iter().find(begins) {
            Some(prefix) => Err(Blocked(prefix.clone())),
            None => Ok(()),
        }
    }

    fn trunk_prefix(&self) -> &str {
        let usual = || self.country.as_deref().map_or("", |code| country::country(code).trunk);
        self.trunk_prefix.as_deref().unwrap_or_else(usual)
    }

    fn international_prefix(&self) -> &str {
        self.known_international_prefix().unwrap_or("00")
    }

    /// Only where the country or the prefix is known does `00` mean `+`: it may be an extension.
    fn known_international_prefix(&self) -> Option<&str> {
        let usual = || self.country.as_deref().map(|code| country::country(code).international);
        self.international_prefix.as_deref().or_else(usual).filter(|prefix| !prefix.is_empty())
    }
}

impl Number {
    /// Reads a number as people write it: digits, `*`, `#`, one `+` in front, and separators (RFC 3966 section 5.1.1,
    /// and blanks and slashes besides). The nought in `+49 (0) 30` is left out.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        let body = text.strip_prefix('+').unwrap_or(text);
        let in_country = body.replace("(0)", "");
        let (plus, body) = if text.starts_with('+') { ("+", in_country.as_str()) } else { ("", body) };
        let kept: String = body.chars().filter(|c| !is_separator(*c)).collect();
        let is_symbol = |c: char| c.is_ascii_digit() || (plus.is_empty() && matches!(c, '*' | '#'));
        let fits = kept.len() <= MAX_DIGITS
            && kept.chars().all(is_symbol)
            && kept.contains(|c: char| c.is_ascii_digit());
        fits.then(|| Self(format!("{plus}{kept}")))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_separator(c: char) -> bool {
    matches!(c, '-' | '.' | '(' | ')' | '/' | ' ' | '\u{a0}')
}

/// Whether a text is what numbers begin with: digits, `*`, `#`, and perhaps a `+` in front; without separators.
pub fn is_beginning(text: &str) -> bool {
    let body = text.strip_prefix('+').unwrap_or(text);
    let symbols = body.chars().all(|c| c.is_ascii_digit() || matches!(c, '*' | '#'));
    !text.is_empty() && text.len() <= MAX_DIGITS && symbols
}

impl Rewrite {
    fn apply(&self, number: &str) -> Option<String> {
        let rest = number.strip_prefix(self.from.as_str())?;
        (rest.is_empty() || !self.whole).then(|| format!("{}{rest}", self.to))
    }
}

impl FromStr for Rewrite {
    type Err = RewriteError;
    fn from_str(text: &str) -> Result<Self, RewriteError> {
        let bad = || RewriteError(text.to_owned());
        let (from, to) = text.split_once(':').ok_or_else(bad)?;
        let (from, whole) = match from.strip_suffix('$') {
            Some(from) => (from, true),
            None => (from, false),
        };
        let reads = is_beginning(from) && (to.is_empty() && !whole || is_beginning(to));
        reads.then(|| Self { from: from.to_owned(), whole, to: to.to_owned() }).ok_or_else(bad)
    }
}

impl fmt::Display for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}:{}", self.from, if self.whole { "$" } else { "" }, self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        Number::read(text).unwrap_or_else(|| panic!("'{text}' is a number"))
    }

    fn dial(plan: &DialPlan, text: &str) -> String {
        match plan.dial(&number(text)) {
            Ok(Dialled { number, emergency: false }) => number,
            Ok(Dialled { number, emergency: true }) => format!("{number}!"),
            Err(Blocked(prefix)) => format!("blocked by {prefix}"),
        }
    }

    fn table(plan: &DialPlan, rows: &[(&str, &str)]) {
        for (typed, sent) in rows {
            assert_eq!(dial(plan, typed), *sent, "{typed}");
        }
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn germany() -> DialPlan {
        DialPlan { country: some("49"), area: some("30"), ..DialPlan::default() }
    }

    #[test]
    fn numbers_are_read_with_the_separators_that_people_write() {
        for (text, read) in [
            ("0301234567", "0301234567"),
            ("030 123-45/67", "0301234567"),
            ("(030) 1234.567", "0301234567"),
            ("+49 (0) 30 123", "+4930123"),
            ("+49(0)30 123", "+4930123"),
            ("+1-201-555-0123", "+12015550123"),
            ("*21#", "*21#"),
            (" 112 ", "112"),
            ("01\u{a0}23", "0123"),
        ] {
            assert_eq!(number(text).as_str(), read);
        }
        for text in ["", "+", "-", "alice", "49+30", "++49", "030 12x", "#*", "+49*1", "0301234567,,1", "٠٣٠"]
        {
            assert_eq!(Number::read(text), None, "{text}");
        }
        assert_eq!(Number::read(&"1".repeat(MAX_DIGITS + 1)), None);
    }

    #[test]
    fn without_settings_a_number_goes_as_it_was_dialled() {
        let rows = [
            ("030 1234567", "0301234567"),
            ("+49 30 123", "+4930123"),
            ("0049", "0049"),
            ("20", "20"),
            ("*21#", "*21#"),
        ];
        table(&DialPlan::default(), &rows);
    }

    #[test]
    fn with_a_country_numbers_go_in_international_form() {
        table(
            &germany(),
            &[
                ("030 1234567", "+49301234567"),
                ("+49 30 1234567", "+49301234567"),
                ("0049 30 1234567", "+49301234567"),
                ("0033 1 23456789", "+33123456789"),
            ],
        );
    }

    #[test]
    fn local_numbers_take_the_area_code_and_extensions_and_services_do_not() {
        table(
            &germany(),
            &[
                ("2345678", "+49302345678"),
                ("23456", "+493023456"),
                ("2345", "2345"),
                ("116117", "116117"),
                ("20", "20"),
            ],
        );
        let narrow = DialPlan { local_digits: Some(3), ..germany() };
        table(&narrow, &[("234", "+4930234"), ("23", "23")]);
        let without_area = DialPlan { area: None, ..germany() };
        table(&without_area, &[("2345678", "2345678"), ("0302345678", "+49302345678")]);
    }

    #[test]
    fn each_country_has_its_own_prefixes() {
        let of = |code: &str| DialPlan { country: some(code), ..DialPlan::default() };
        table(
            &of("1"),
            &[("2125550123", "+12125550123"), ("1 212 555 0123", "+12125550123"), ("011 49 30 1", "+49301")],
        );
        table(
            &DialPlan { outside_prefix: some("9"), ..of("1") },
            &[("1001", "1001"), ("1 212 555 0123", "912125550123")],
        );
        table(
            &DialPlan { area: some("212"), ..of("1") },
            &[("555-0123", "+12125550123"), ("2125550123", "+12125550123")],
        );
        table(&of("39"), &[("06 1234 5678", "+390612345678"), ("0039 06 12345678", "+390612345678")]);
        table(&of("34"), &[("912345678", "+34912345678"), ("1234", "1234")]);
        table(&of("36"), &[("06 1 2345678", "+3612345678")]);
        table(&of("7"), &[("8 495 1234567", "+74951234567"), ("810 49 30 1", "+49301")]);
        // Where numbers have a fixed length, extensions may begin like the trunk prefix.
        table(&of("1"), &[("101", "101"), ("1001", "1001"), ("1 555 0123", "15550123")]);
        table(&of("7"), &[("801", "801"), ("8001", "8001")]);
        table(&of("44"), &[("020 7946 0000", "+442079460000")]);
    }

    #[test]
    fn settings_stand_above_what_is_usual_in_the_country() {
        let plan = DialPlan { trunk_prefix: some("9"), international_prefix: some("99"), ..germany() };
        table(&plan, &[("930123", "+4930123"), ("9933123", "+33123"), ("0030", "0030")]);
        let none = DialPlan { trunk_prefix: some(""), ..germany() };
        table(&none, &[("030123", "030123")]);
    }

    #[test]
    fn numbers_that_lead_outside_take_the_outside_prefix_and_extensions_do_not() {
        let plan = DialPlan { outside_prefix: some("0"), ..germany() };
        table(
            &plan,
            &[
                ("030 2345678", "00302345678"),
                ("+49 30 2345678", "00302345678"),
                ("2345678", "00302345678"),
                ("+33 12345", "0003312345"),
                ("23", "23"),
                ("*8", "*8"),
            ],
        );
        let bare = DialPlan { outside_prefix: some("9"), ..DialPlan::default() };
        table(&bare, &[("+49 30 1", "90049301"), ("23", "23"), ("9030", "9030")]);
    }

    #[test]
    fn the_form_of_numbers_can_be_chosen() {
        let plan = |format| DialPlan { format: Some(format), ..germany() };
        table(
            &plan(NumberFormat::National),
            &[("+49 30 1", "0301"), ("+33 1", "00331"), ("2345678", "0302345678")],
        );
        table(
            &plan(NumberFormat::Dialled),
            &[("+49 30 1", "+49301"), ("030 1", "0301"), ("2345678", "2345678")],
        );
        table(&plan(NumberFormat::Plus), &[("030 1", "+49301"), ("20", "20")]);
    }

    #[test]
    fn the_first_replacement_that_fits_is_made_once() {
        let rewrite = ["7$:+49301234567", "8:030", "80:1", "030:040", "**:*", "99:"];
        let rewrite = rewrite.iter().map(|rule| rule.parse().unwrap()).collect();
        let plan = DialPlan { rewrite, ..DialPlan::default() };
        table(
            &plan,
            &[
                ("7", "+49301234567"),
                ("71", "71"),
                ("801", "03001"),
                ("0301", "0401"),
                ("**3", "*3"),
                ("9930", "30"),
            ],
        );
    }

    #[test]
    fn replacements_are_written_as_they_are_read() {
        for text in ["0049:0", "7$:+49301234567", "9:", "*1:#2"] {
            assert_eq!(text.parse::<Rewrite>().unwrap().to_string(), text);
        }
        for text in ["", "7", ":7", "a:b", "7:x", "7$:", "$:7", "7:8:9", "7 :8"] {
            assert!(text.parse::<Rewrite>().is_err(), "{text}");
        }
    }

    #[test]
    fn emergency_numbers_are_never_blocked_or_rewritten() {
        let everything = ["1", "9", "0", "+"].map(str::to_owned).to_vec();
        let plan = DialPlan {
            outside_prefix: some("0"),
            rewrite: vec!["11:22".parse().unwrap(), "5$:112".parse().unwrap()],
            blocked: everything,
            ..germany()
        };
        table(
            &plan,
            &[
                ("112", "112!"),
                ("1-1-2", "112!"),
                ("110", "110!"),
                ("911", "911!"),
                ("0112", "0112!"),
                ("5", "112!"),
                ("1123", "blocked by 1"),
                ("999", "blocked by 9"),
            ],
        );
    }

    #[test]
    fn emergency_numbers_are_those_of_the_country_unless_others_are_given() {
        let of = |code: &str| DialPlan { country: some(code), ..DialPlan::default() };
        table(&DialPlan::default(), &[("112", "112!"), ("911", "911!"), ("110", "110"), ("999", "999")]);
        table(&of("44"), &[("999", "999!"), ("112", "112!")]);
        table(&of("61"), &[("000", "000!")]);
        table(&of("81"), &[("119", "119!")]);
        let own = DialPlan { emergency: Some(vec!["77".to_owned()]), ..germany() };
        table(&own, &[("77", "77!"), ("112", "112")]);
    }

    #[test]
    fn blocked_is_a_beginning_however_it_is_written() {
        let blocked = ["0900", "+1900", "*9"].map(str::to_owned).to_vec();
        let plan = DialPlan { blocked, ..germany() };
        table(
            &plan,
            &[
                ("0900 123", "blocked by 0900"),
                ("+49 900 123", "blocked by 0900"),
                ("0049900123", "blocked by 0900"),
                ("001900 1", "blocked by +1900"),
                ("+1 900 1", "blocked by +1900"),
                ("*91", "blocked by *9"),
                ("09", "+499"),
            ],
        );
        let abroad = DialPlan { blocked: vec!["00".to_owned()], ..germany() };
        table(&abroad, &[("+33 1", "blocked by 00"), ("+49 30 1", "+49301")]);
        let rewritten = DialPlan { rewrite: vec!["5:0900".parse().unwrap()], ..plan };
        table(&rewritten, &[("51", "blocked by 0900")]);
    }

    #[test]
    fn a_number_in_a_whole_address_is_checked_and_left_as_it_is() {
        let plan = DialPlan { blocked: vec!["0900".to_owned()], ..germany() };
        assert_eq!(plan.check(&number("+49900")), Err(Blocked("0900".to_owned())));
        assert_eq!((plan.check(&number("112")), plan.check(&number("030"))), (Ok(true), Ok(false)));
    }
}
