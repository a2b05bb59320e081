//! `voipctl neighbours`: telephones of the local network, `Neighbours` of `org.voipd.Manager1`.

use serde_json::Value;
use voipd_dbus::names;

use crate::daemon::Daemon;
use crate::exit::Failure;
use crate::nat::dicts;
use crate::objects::Object;
use crate::output::{Output, dict_to_json};
use crate::text::table;

pub(crate) async fn list(daemon: &Daemon, out: Output) -> Result<(), Failure> {
    let manager = Object {
        path: names::ROOT_PATH.to_owned(),
        properties: daemon.properties(names::ROOT_PATH, names::MANAGER).await?,
    };
    let neighbours = dicts(&manager, "Neighbours");
    if out.json {
        let all = neighbours.iter().map(|neighbour| Value::from(dict_to_json(&neighbour.properties)));
        return out.document(&Value::from(all.collect::<Vec<_>>()));
    }
    let row = |neighbour: &Object| ["name", "address"].map(|key| neighbour.text(key).to_owned()).to_vec();
    out.lines(&table(&["NEIGHBOUR", "ADDRESS"], &neighbours.iter().map(row).collect::<Vec<_>>()))
}
