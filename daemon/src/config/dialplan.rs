//! The keys of an account that say how numbers are dialled.

use voipd_agent::dialplan::{DialPlan, NumberFormat, NumberUri, is_beginning};

use super::fields::Fields;

/// Longest prefix or code in digits.
const LONGEST: usize = 15;

/// Reads the keys of a dial plan. What is wrong is noted in `fields`.
pub(super) fn read(fields: &mut Fields<'_>) -> DialPlan {
    let country = fields.parse("country", |text| {
        let code = text.strip_prefix('+').unwrap_or(text);
        let fits = is_digits(code) && !code.starts_with('0') && (1..=3).contains(&code.len());
        fits.then(|| code.to_owned())
            .ok_or_else(|| format!("is '{text}': write the country code, such as \"49\""))
    });
    let area = fields.parse("area", |text| {
        let fits = is_digits(text) && (1..=LONGEST).contains(&text.len());
        let wrong = || format!("is '{text}': write the area code without its trunk prefix, such as \"30\"");
        fits.then(|| text.to_owned()).ok_or_else(wrong)
    });
    let mut prefix = |key| {
        fields.parse(key, |text| {
            let fits =
                text.len() <= LONGEST && (text.is_empty() || is_beginning(text) && !text.starts_with('+'));
            fits.then(|| text.to_owned())
                .ok_or_else(|| format!("is '{text}': write at most {LONGEST} digits, or \"\" for none"))
        })
    };
    let trunk_prefix = prefix("trunk-prefix");
    let international_prefix = prefix("international-prefix");
    let outside_prefix = prefix("outside-prefix").filter(|prefix| !prefix.is_empty());
    let local_digits = fields.number("local-digits", 1..=15);
    let rewrite =
        fields.parse_list("rewrite", |text| text.parse().map_err(|error| format!("holds a fault: {error}")));
    let format = fields.parse("number-format", |text| {
        let known = [NumberFormat::Dialled, NumberFormat::Plus, NumberFormat::National];
        let found = known.into_iter().find(|format| format_name(*format) == text);
        found.ok_or_else(|| format!("is '{text}': write \"dialled\", \"plus\" or \"national\""))
    });
    let uri = fields.parse("number-uri", |text| {
        let known = [NumberUri::Sip, NumberUri::Phone, NumberUri::Tel];
        let found = known.into_iter().find(|uri| uri_name(*uri) == text);
        found.ok_or_else(|| format!("is '{text}': write \"sip\", \"phone\" or \"tel\""))
    });
    let emergency = fields.parse_list("emergency", |text| numbers(text, "112"));
    let blocked = fields.parse_list("blocked", |text| numbers(text, "0900"));

    if area.is_some() && country.is_none() {
        fields.reject("area", "means nothing without a country: add \"country\" or remove this key");
    }
    if format.is_some_and(|format| format != NumberFormat::Dialled) && country.is_none() {
        fields.reject("number-format", "needs to know the country: add \"country\", or write \"dialled\"");
    }
    if format == Some(NumberFormat::Plus) && outside_prefix.is_some() {
        fields.reject(
            "number-format",
            "is \"plus\" beside an outside prefix, behind which nobody understands '+': write \"national\"",
        );
    }
    DialPlan {
        country,
        area,
        trunk_prefix,
        international_prefix,
        outside_prefix,
        local_digits: local_digits.and_then(|digits| u8::try_from(digits).ok()),
        rewrite: rewrite.unwrap_or_default(),
        format,
        uri: uri.unwrap_or_default(),
        emergency,
        blocked: blocked.unwrap_or_default(),
    }
}

/// What a dial plan says beyond the usual, as it is written: `country = 49`.
pub fn lines(plan: &DialPlan) -> Vec<String> {
    let list = |list: &[String]| list.join(", ");
    let rewrite: Vec<String> = plan.rewrite.iter().map(ToString::to_string).collect();
    let unusual_uri = Some(plan.uri).filter(|uri| *uri != NumberUri::default());
    let some = |values: &[String]| Some(list(values)).filter(|text| !text.is_empty());
    let lines = [
        ("country", plan.country.clone()),
        ("area", plan.area.clone()),
        ("trunk-prefix", plan.trunk_prefix.clone()),
        ("international-prefix", plan.international_prefix.clone()),
        ("outside-prefix", plan.outside_prefix.clone()),
        ("local-digits", plan.local_digits.map(|digits| digits.to_string())),
        ("rewrite", some(&rewrite)),
        ("number-format", plan.format.map(|format| format_name(format).to_owned())),
        ("number-uri", unusual_uri.map(|uri| uri_name(uri).to_owned())),
        ("emergency", plan.emergency.as_deref().map(list)),
        ("blocked", some(&plan.blocked)),
    ];
    lines.into_iter().filter_map(|(key, value)| Some(format!("{key} = {}", value?))).collect()
}

/// The format as it is written.
pub fn format_name(format: NumberFormat) -> &'static str {
    match format {
        NumberFormat::Dialled => "dialled",
        NumberFormat::Plus => "plus",
        NumberFormat::National => "national",
    }
}

/// The kind of URI as it is written.
pub fn uri_name(uri: NumberUri) -> &'static str {
    match uri {
        NumberUri::Sip => "sip",
        NumberUri::Phone => "phone",
        NumberUri::Tel => "tel",
    }
}

fn numbers(text: &str, example: &str) -> Result<String, String> {
    match is_beginning(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("holds '{text}': write digits without separators, such as \"{example}\"")),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
