//! What the configuration says about name servers, about how many calls there may be and about how numbers are dialled.

use std::path::Path;

use voipd::config::account::Holds;
use voipd::config::{Config, ConfigError, Scope, parse};
use voipd_agent::dialplan::{DialPlan, NumberFormat, NumberUri};

fn read(text: &str) -> Result<Config, Vec<String>> {
    let no_files = |_: &Path, _: Holds| Err(std::io::ErrorKind::NotFound.into());
    parse(text, Path::new("voipd.toml"), Scope::System, &no_files).map_err(|error| match error {
        ConfigError::Faulty(faults) => faults.iter().map(ToString::to_string).collect(),
        other => panic!("{other}"),
    })
}

fn plan(keys: &str) -> Result<DialPlan, Vec<String>> {
    let text = format!("[[account]]\nname = \"a\"\naddress = \"sip:a@b.example\"\n{keys}");
    read(&text).map(|mut config| config.accounts.remove(0).dial_plan)
}

#[track_caller]
fn fault(keys: &str) -> String {
    let mut faults = plan(keys).expect_err("the text is wrong");
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults.remove(0)
}

#[test]
fn name_servers_have_the_port_of_dns_unless_another_is_given() {
    let servers =
        |list: &str| read(&format!("[sip]\nname-servers = {list}")).map(|config| config.sip.name_servers);
    let read_servers =
        servers("[\"192.0.2.53\", \"127.0.0.1:5353\", \"2001:db8::53\", \"[::1]:5353\"]").unwrap();
    let expected = ["192.0.2.53:53", "127.0.0.1:5353", "[2001:db8::53]:53", "[::1]:5353"];
    assert_eq!(read_servers, expected.map(|text| text.parse().unwrap()));
    assert!(read("").unwrap().sip.name_servers.is_empty());
    for wrong in ["dns.example.org", "192.0.2.53:0", "0.0.0.0", "192.0.2.53:x"] {
        let faults = servers(&format!("[\"{wrong}\"]")).unwrap_err();
        assert!(faults[0].starts_with("voipd.toml:2:17: sip.name-servers holds"), "{faults:?}");
    }
    let many = format!("{:?}", (0..9).map(|n| format!("192.0.2.{n}")).collect::<Vec<_>>());
    assert!(servers(&many).unwrap_err()[0].contains("name 8 at most"));
}

#[test]
fn every_call_that_may_be_has_its_place_in_the_audio_engine() {
    let ports = |max: usize| read(&format!("[calls]\nmax = {max}")).unwrap().calls.ports();
    assert_eq!(read("").unwrap().calls.ports(), 256);
    // One of each microphone, loudspeaker and ringer, and one for the ringer's sound where that is the loudspeaker.
    let devices = 4;
    for max in [1, 64, 65, 300, 1000] {
        assert!(ports(max) >= max + devices, "{max}: {}", ports(max));
    }
    assert_eq!((ports(100), ports(1000)), (364, 1024));
    assert!(read("[calls]\nmax = 1001").unwrap_err()[0].contains("write a number from 1 to 1000"));
}

#[test]
fn every_key_of_a_dial_plan_is_read() {
    let keys = "country = '+49'\narea = '30'\ntrunk-prefix = ''\ninternational-prefix = '000'\noutside-prefix = '9'\n\
                local-digits = 4\nrewrite = ['7$:+4930', '8:030']\nnumber-format = 'national'\nnumber-uri = 'phone'\n\
                emergency = ['112', '77']\nblocked = ['0900', '+1900', '*9']\n";
    let expected = DialPlan {
        country: Some("49".to_owned()),
        area: Some("30".to_owned()),
        trunk_prefix: Some(String::new()),
        international_prefix: Some("000".to_owned()),
        outside_prefix: Some("9".to_owned()),
        local_digits: Some(4),
        rewrite: vec!["7$:+4930".parse().unwrap(), "8:030".parse().unwrap()],
        format: Some(NumberFormat::National),
        uri: NumberUri::Phone,
        emergency: Some(vec!["112".to_owned(), "77".to_owned()]),
        blocked: ["0900", "+1900", "*9"].map(str::to_owned).to_vec(),
    };
    assert_eq!(plan(keys).unwrap(), expected);
    assert_eq!(plan("").unwrap(), DialPlan::default());
}

#[test]
fn what_is_wrong_with_a_dial_plan_is_told_with_its_place() {
    for (keys, told) in [
        (
            "country = 'Germany'",
            "voipd.toml:4:11: account.country is 'Germany': write the country code, such as \"49\"",
        ),
        ("country = '049'", "write the country code"),
        ("country = 49", "must be a string in quotes"),
        ("country = '49'\narea = '030 x'", "voipd.toml:5:8: account.area is '030 x': write the area code"),
        ("area = '30'", "means nothing without a country"),
        ("trunk-prefix = 'x'", "account.trunk-prefix is 'x': write at most 15 digits, or \"\" for none"),
        ("international-prefix = '+'", "account.international-prefix is '+'"),
        ("local-digits = 0", "write a number from 1 to 15"),
        (
            "rewrite = ['7=8']",
            "voipd.toml:4:12: account.rewrite holds a fault: '7=8' is no replacement: write FROM:TO",
        ),
        ("number-format = 'e164'", "write \"dialled\", \"plus\" or \"national\""),
        ("number-format = 'plus'", "needs to know the country"),
        ("country = '49'\noutside-prefix = '0'\nnumber-format = 'plus'", "write \"national\""),
        ("number-uri = 'uri'", "write \"sip\", \"phone\" or \"tel\""),
        ("emergency = ['1-1-2']", "account.emergency holds '1-1-2': write digits without separators"),
        ("blocked = ['']", "account.blocked holds ''"),
        ("blocked = '0900'", "must be a list of strings"),
        ("blocks = ['0900']", "did you mean 'blocked'?"),
    ] {
        let fault = fault(keys);
        assert!(fault.contains(told), "{keys}: {fault}");
    }
    let echo = read("[[account]]\nname = 'echo'\nkind = 'echo'\ncountry = '49'").unwrap_err();
    assert!(echo[0].contains("account.country means nothing without an address"), "{echo:?}");
}
