//! The order in which things appear on the bus, and that an answer that is late holds up nothing.

mod desk;

use std::collections::HashMap;
use std::io::{Read, Seek, Write};

use desk::{Desk, account, answer, call, call_view, invoke, live, next_line, subscribe};
use futures_util::StreamExt;
use voipd::api::{AccountChoice, Request, Update};
use voipd_agent::view::{AccountState, CallId, CallState, Reason};
use voipd_dbus::names;
use zbus::{Fd, Message, OwnedVariant, Variant};

const ROOT: &str = "/org/voipd";
const CALL: &str = "/org/voipd/call/1";

fn state_changed(old: CallState, new: CallState) -> Update {
    Update::CallStateChanged { call: CallId(1), old, new, reason: Reason::Remote, sip_status: 180 }
}

#[tokio::test]
async fn a_new_call_is_told_before_dial_is_answered_and_its_changes_after() {
    let mut desk = Desk::start().await;
    let mut messages = subscribe(&desk.client).await;
    let options = HashMap::<&str, Variant<'_>>::new();
    let dial = Message::method_call(ROOT, "Dial")
        .destination(names::BUS_NAME)
        .interface(names::MANAGER)
        .build(&("sip:bob@example.org", options))
        .unwrap();
    desk.client.send(&dial).await.unwrap();
    let Request::Dial { target, reply, .. } = desk.request().await else { panic!() };
    assert_eq!(target, "sip:bob@example.org");
    // All at once, as a driver does that answers after many things have happened.
    desk.tell(call(1, CallState::Dialing));
    desk.tell(answer(reply, Ok(CallId(1))));
    desk.tell(call(1, CallState::Ringing));
    desk.tell(state_changed(CallState::Dialing, CallState::Ringing));
    desk.tell(Update::CallRemoved(CallId(1)));
    let mut lines = Vec::new();
    for _ in 0..7 {
        lines.push(next_line(&mut messages).await);
    }
    assert_eq!(
        lines,
        [
            "Signal InterfacesAdded /org/voipd",
            "Signal PropertiesChanged /org/voipd",
            "MethodReturn",
            "Signal PropertiesChanged /org/voipd/call/1",
            "Signal StateChanged /org/voipd/call/1",
            "Signal PropertiesChanged /org/voipd",
            "Signal InterfacesRemoved /org/voipd",
        ]
    );
}

#[tokio::test]
async fn many_answers_keep_their_places() {
    let mut desk = Desk::start().await;
    desk.tell(call(1, CallState::Active));
    let mut messages = subscribe(&desk.client).await;
    // More than tokio's cooperative budget lets through in one go, which ends at another place in each round.
    for round in 0..4 {
        for _ in 0..60 {
            let hold = Message::method_call(CALL, "Hold")
                .destination(names::BUS_NAME)
                .interface(names::CALL)
                .build(&())
                .unwrap();
            desk.client.send(&hold).await.unwrap();
        }
        let mut replies = Vec::new();
        for _ in 0..60 {
            let Request::Hold { reply, .. } = desk.request().await else { panic!() };
            replies.push(reply);
        }
        (0..round).for_each(|_| desk.tell(Update::DoNotDisturb(false)));
        for (n, reply) in replies.into_iter().enumerate() {
            desk.tell(answer(reply, Ok(())));
            let mut view = call_view(1, CallState::Active);
            view.created_at = 100 * round + n as u64 + 2;
            desk.tell(Update::Call(Box::new(view)));
        }
        for _ in 0..60 {
            let mut line = next_line(&mut messages).await;
            while line.contains("InterfacesAdded") || line.ends_with("PropertiesChanged /org/voipd") {
                line = next_line(&mut messages).await;
            }
            assert_eq!(line, "MethodReturn");
            assert_eq!(next_line(&mut messages).await, "Signal PropertiesChanged /org/voipd/call/1");
        }
    }
}

#[tokio::test]
async fn a_change_is_told_once_with_all_that_changed_and_nothing_else() {
    let desk = Desk::start().await;
    desk.tell(call(1, CallState::Active));
    let mut messages = subscribe(&desk.client).await;
    let mut view = call_view(1, CallState::Held);
    view.local_hold = true;
    view.codec = "opus";
    desk.tell(call(1, CallState::Active));
    desk.tell(Update::Call(Box::new(view)));
    loop {
        let message = messages.next().await.unwrap().unwrap();
        if message.header().path().is_none_or(|path| path.as_str() != CALL) {
            continue;
        }
        let body = message.body();
        let (interface, changed, invalidated): (String, HashMap<String, OwnedVariant>, Vec<String>) =
            body.deserialize().unwrap();
        assert_eq!((interface.as_str(), invalidated.len()), (names::CALL, 0));
        let changed: HashMap<&str, String> = changed
            .iter()
            .map(|(name, value)| (name.as_str(), Variant::from(value.try_clone().unwrap()).to_string()))
            .collect();
        let wanted = [("State", "\"held\""), ("LocalHold", "true"), ("Codec", "\"opus\"")];
        assert_eq!(changed, wanted.map(|(name, value)| (name, value.to_owned())).into());
        break;
    }
}

#[tokio::test]
async fn a_getter_that_waits_for_the_driver_holds_up_no_one() {
    let mut desk = Desk::start().await;
    desk.tell(desk::audio());
    let client = desk.client.clone();
    let get = tokio::spawn(async move {
        let path = "/org/voipd/audio";
        invoke(&client, path, "org.freedesktop.DBus.Properties", "Get", &(names::AUDIO, "InputLevel")).await
    });
    let Request::AudioLive { reply } = desk.request().await else { panic!() };
    // The driver is busy; objects come and go, and other properties are read.
    desk.tell(account(1, AccountState::Ready));
    desk.tell(call(1, CallState::Incoming));
    let name = invoke(
        &desk.client,
        "/org/voipd/account/1",
        "org.freedesktop.DBus.Properties",
        "Get",
        &(names::ACCOUNT, "Name"),
    )
    .await
    .unwrap();
    let name: OwnedVariant = name.body().deserialize().unwrap();
    assert_eq!(String::try_from(name).unwrap(), "home");
    desk.tell(answer(reply, Ok(live())));
    let level: OwnedVariant = get.await.unwrap().unwrap().body().deserialize().unwrap();
    assert_eq!(f64::try_from(level).unwrap(), -30.0);
}

#[tokio::test]
async fn all_figures_are_asked_for_once() {
    let mut desk = Desk::start().await;
    desk.tell(call(1, CallState::Active));
    let client = desk.client.clone();
    let get = tokio::spawn(async move {
        invoke(&client, CALL, "org.freedesktop.DBus.Properties", "GetAll", &names::CALL_STATISTICS).await
    });
    let Request::CallStatistics { call: CallId(1), reply } = desk.request().await else { panic!() };
    desk.tell(answer(reply, Ok(desk::statistics())));
    let figures: HashMap<String, OwnedVariant> = get.await.unwrap().unwrap().body().deserialize().unwrap();
    let figures = voipd_dbus::Figures::from_dict(&figures);
    assert_eq!((figures.packets_lost, figures.loss_percent), (25, 25.0));
    assert_eq!((figures.jitter_ms, figures.round_trip_ms, figures.level_in), (1.5, -1.0, -20.0));
    assert!(desk.requests.try_recv().is_err());
}

#[tokio::test]
async fn a_property_that_is_written_changes_when_the_driver_says_so() {
    let mut desk = Desk::start().await;
    desk.tell(call(1, CallState::Active));
    let mut messages = subscribe(&desk.client).await;
    let set = Message::method_call(CALL, "Set")
        .destination(names::BUS_NAME)
        .interface("org.freedesktop.DBus.Properties")
        .build(&(names::CALL, "Muted", Variant::from(true)))
        .unwrap();
    desk.client.send(&set).await.unwrap();
    let Request::SetMuted { call: CallId(1), muted: true, reply } = desk.request().await else { panic!() };
    let mut view = call_view(1, CallState::Active);
    view.muted = true;
    desk.tell(Update::Call(Box::new(view)));
    desk.tell(answer(reply, Ok(())));
    let mut lines = vec![next_line(&mut messages).await];
    while lines.last().is_some_and(|line| line != "MethodReturn") {
        lines.push(next_line(&mut messages).await);
    }
    let of_the_call: Vec<&String> = lines.iter().filter(|line| line.ends_with(CALL)).collect();
    assert_eq!(of_the_call, ["Signal PropertiesChanged /org/voipd/call/1"]);
}

#[tokio::test]
async fn files_and_the_account_come_along_with_dial() {
    let mut desk = Desk::start().await;
    let mut recording = tempfile::tempfile().unwrap();
    let client = desk.client.clone();
    let file = recording.try_clone().unwrap();
    let dial = tokio::spawn(async move {
        let options = HashMap::from([
            ("record", Variant::from(Fd::from(std::os::fd::OwnedFd::from(file)))),
            ("mix", true.into()),
            ("account", "home".into()),
        ]);
        invoke(&client, ROOT, names::MANAGER, "Dial", &("sip:bob@example.org", options)).await
    });
    let Request::Dial { account, sound, reply, .. } = desk.request().await else { panic!() };
    assert_eq!(account, Some(AccountChoice::Name("home".into())));
    assert!(sound.mix && sound.play.is_none());
    std::fs::File::from(sound.record.unwrap()).write_all(b"heard").unwrap();
    desk.tell(answer(reply, Ok(CallId(1))));
    dial.await.unwrap().unwrap();
    let mut text = String::new();
    recording.rewind().unwrap();
    recording.read_to_string(&mut text).unwrap();
    assert_eq!(text, "heard");
}
