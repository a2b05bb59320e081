//! Options of `voipctl account add` that say how numbers are dialled.

use clap::Args;
use voipd_dbus::AccountSettings;

#[derive(Debug, Args)]
#[command(next_help_heading = "How numbers are dialled")]
pub(crate) struct DialPlanArgs {
    /// Country code, such as 49: brings the country's prefixes and emergency numbers, and sends numbers as +49...
    #[arg(long, value_name = "CODE")]
    country: Option<String>,
    /// Area code without trunk prefix, such as 30: completes local numbers
    #[arg(long, value_name = "DIGITS")]
    area: Option<String>,
    /// What stands before national numbers, when it is not as usual in the country; '' for nothing
    #[arg(long, value_name = "DIGITS")]
    trunk_prefix: Option<String>,
    /// What + stands for, when it is not as usual in the country
    #[arg(long, value_name = "DIGITS")]
    international_prefix: Option<String>,
    /// What the exchange wants before numbers that lead outside
    #[arg(long, value_name = "DIGITS")]
    outside_prefix: Option<String>,
    /// Fewest digits of a local number; shorter ones are extensions
    #[arg(long, value_name = "N")]
    local_digits: Option<u32>,
    /// Replace the beginning of numbers (FROM:TO) or whole ones (FROM$:TO), such as '7$:+49301234567'
    #[arg(long, value_delimiter = ',', value_name = "FROM:TO")]
    rewrite: Option<Vec<String>>,
    /// How numbers are sent: dialled, plus, or national
    #[arg(long, value_name = "FORMAT")]
    number_format: Option<String>,
    /// In which kind of URI numbers are sent: sip, phone (with user=phone), or tel
    #[arg(long, value_name = "KIND")]
    number_uri: Option<String>,
    /// Emergency numbers, when they are not those of the country: never blocked or rewritten
    #[arg(long, value_delimiter = ',', value_name = "NUMBER")]
    emergency: Option<Vec<String>>,
    /// Beginnings of numbers that are not called, such as 0900
    #[arg(long, value_delimiter = ',', value_name = "DIGITS")]
    blocked: Option<Vec<String>>,
}

impl DialPlanArgs {
    /// Adds these to the settings of an account.
    pub(crate) fn add_to(self, settings: &mut AccountSettings) {
        settings.country = self.country;
        settings.area = self.area;
        settings.trunk_prefix = self.trunk_prefix;
        settings.international_prefix = self.international_prefix;
        settings.outside_prefix = self.outside_prefix;
        settings.local_digits = self.local_digits;
        settings.rewrite = self.rewrite;
        settings.number_format = self.number_format;
        settings.number_uri = self.number_uri;
        settings.emergency = self.emergency;
        settings.blocked = self.blocked;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use voipd_dbus::AccountSettings;

    use super::DialPlanArgs;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        dial_plan: DialPlanArgs,
    }

    #[test]
    fn options_become_settings_and_what_is_not_said_stays_unsaid() {
        let line =
            "add --country 49 --trunk-prefix= --local-digits 4 --rewrite 7$:+4930,9: --blocked 0900,+1900";
        let mut settings = AccountSettings { name: Some("a".to_owned()), ..AccountSettings::default() };
        Line::try_parse_from(line.split(' ')).unwrap().dial_plan.add_to(&mut settings);
        assert_eq!(settings.name.as_deref(), Some("a"));
        assert_eq!((settings.country.as_deref(), settings.trunk_prefix.as_deref()), (Some("49"), Some("")));
        assert_eq!((settings.local_digits, settings.area), (Some(4), None));
        assert_eq!(settings.rewrite.unwrap(), ["7$:+4930", "9:"]);
        assert_eq!(settings.blocked.unwrap(), ["0900", "+1900"]);
        assert_eq!(settings.emergency, None);
    }
}
