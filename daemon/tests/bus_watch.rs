//! Watching figures: who gets them, and that nothing runs when nobody does.

mod desk;

use std::collections::HashMap;

use desk::{Desk, answer, call, invoke, statistics};
use futures_util::StreamExt;
use voipd::api::{Request, Update};
use voipd_agent::quality::{Cause, Flow, Warning};
use voipd_agent::view::{CallId, CallState};
use voipd_audio::plan::Heard;
use voipd_dbus::names;
use zbus::{MessageStream, OwnedVariant};

const CALL: &str = "/org/voipd/call/1";

async fn desk() -> Desk {
    let desk = Desk::start().await;
    desk.tell(call(1, CallState::Active));
    desk.tell(desk::audio());
    desk
}

async fn statistics_request(desk: &mut Desk) {
    let Request::CallStatistics { call: CallId(1), reply } = desk.request().await else { panic!() };
    desk.tell(answer(reply, Ok(statistics())));
}

#[tokio::test]
async fn figures_go_to_the_watcher_alone() {
    let mut desk = desk().await;
    let other = desk.private.client().await;
    let mut others = desk::subscribe(&other).await;
    let mut mine = MessageStream::from(&desk.client);
    invoke(&desk.client, CALL, names::CALL_STATISTICS, "Watch", &100u32).await.unwrap();
    for _ in 0..2 {
        statistics_request(&mut desk).await;
        loop {
            let message = mine.next().await.unwrap().unwrap();
            if message.header().member().is_some_and(|member| member.as_str() == "Statistics") {
                let figures: HashMap<String, OwnedVariant> = message.body().deserialize().unwrap();
                assert_eq!(voipd_dbus::Figures::from_dict(&figures).packets_received, 75);
                break;
            }
        }
    }
    // A mark that all receive: before it the other has received nothing.
    desk.tell(call(2, CallState::Dialing));
    assert_eq!(desk::next_line(&mut others).await, "Signal InterfacesAdded /org/voipd");
}

#[tokio::test]
async fn one_question_serves_all_watchers_of_a_call() {
    let mut desk = desk().await;
    let other = desk.private.client().await;
    invoke(&desk.client, CALL, names::CALL_STATISTICS, "Watch", &100u32).await.unwrap();
    invoke(&other, CALL, names::CALL_STATISTICS, "Watch", &100u32).await.unwrap();
    let Request::CallStatistics { reply, .. } = desk.request().await else { panic!() };
    // While the driver has not answered, it is not asked again.
    let again = tokio::time::timeout(std::time::Duration::from_millis(350), desk.requests.recv()).await;
    assert!(again.is_err());
    desk.tell(answer(reply, Ok(statistics())));
    statistics_request(&mut desk).await;
}

/// Answers until nothing is asked for three intervals, and says whether that happened.
async fn falls_silent(desk: &mut Desk) -> bool {
    for _ in 0..20 {
        match tokio::time::timeout(std::time::Duration::from_millis(350), desk.requests.recv()).await {
            Ok(Some(Request::CallStatistics { reply, .. })) => desk.tell(answer(reply, Ok(statistics()))),
            Ok(_) => panic!(),
            Err(_) => return true,
        }
    }
    false
}

#[tokio::test]
async fn unwatching_leaving_and_the_calls_end_stop_it() {
    let mut desk = desk().await;
    invoke(&desk.client, CALL, names::CALL_STATISTICS, "Watch", &100u32).await.unwrap();
    statistics_request(&mut desk).await;
    invoke(&desk.client, CALL, names::CALL_STATISTICS, "Unwatch", &()).await.unwrap();
    assert!(falls_silent(&mut desk).await);

    let leaver = desk.private.client().await;
    invoke(&leaver, CALL, names::CALL_STATISTICS, "Watch", &100u32).await.unwrap();
    statistics_request(&mut desk).await;
    leaver.close().await.unwrap();
    assert!(falls_silent(&mut desk).await);

    invoke(&desk.client, CALL, names::CALL_STATISTICS, "Watch", &100u32).await.unwrap();
    statistics_request(&mut desk).await;
    desk.tell(Update::CallRemoved(CallId(1)));
    assert!(falls_silent(&mut desk).await);
}

#[tokio::test]
async fn a_client_can_watch_so_many_calls_and_no_more() {
    let desk = desk().await;
    for number in 2..=65 {
        desk.tell(call(number, CallState::Active));
        let path = names::call_path(number);
        invoke(&desk.client, &path, names::CALL_STATISTICS, "Watch", &60_000u32).await.unwrap();
    }
    let more = invoke(&desk.client, CALL, names::CALL_STATISTICS, "Watch", &60_000u32).await;
    assert_eq!(more.unwrap_err().0, "org.voipd.Error.LimitReached");
    // Another interval for one that is watched already is no more.
    invoke(&desk.client, "/org/voipd/call/2", names::CALL_STATISTICS, "Watch", &50_000u32).await.unwrap();
    invoke(&desk.client, "/org/voipd/call/2", names::CALL_STATISTICS, "Unwatch", &()).await.unwrap();
    invoke(&desk.client, CALL, names::CALL_STATISTICS, "Watch", &60_000u32).await.unwrap();
}

/// The next signal of this name: its body.
async fn signal<T: serde::de::DeserializeOwned + zbus::wire::Type>(
    stream: &mut MessageStream,
    member: &str,
) -> T {
    let wait = async {
        loop {
            let message = stream.next().await.unwrap().unwrap();
            if message.header().member().is_some_and(|found| found.as_str() == member) {
                return message.body().deserialize().unwrap();
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.expect(member)
}

#[tokio::test]
async fn talk_and_silence_are_listened_for_while_somebody_asks() {
    let mut desk = desk().await;
    let bystander = desk.private.client().await;
    let mut nothing = desk::subscribe(&bystander).await;
    let mut mine = MessageStream::from(&desk.client);
    invoke(&desk.client, CALL, names::CALL_STATISTICS, "WatchActivity", &1u32).await.unwrap();
    let Request::WatchActivity { call: CallId(1), on: true } = desk.request().await else { panic!() };
    let talk = |talking| Update::Activity { call: CallId(1), heard: Heard::Far, talking, level_dbov: -20 };
    desk.tell(talk(true));
    let told: (String, bool, f64) = signal(&mut mine, "ActivityChanged").await;
    assert_eq!(told, ("far".to_owned(), true, -20.0));

    // The second listener costs the driver nothing, and hears at once who is talking.
    let late = desk.private.client().await;
    let mut theirs = MessageStream::from(&late);
    invoke(&late, CALL, names::CALL_STATISTICS, "WatchActivity", &0u32).await.unwrap();
    let told: (String, bool, f64) = signal(&mut theirs, "ActivityChanged").await;
    assert_eq!(told, ("far".to_owned(), true, -127.0));

    let silence: (String, u32) = signal(&mut mine, "SilenceTimeout").await;
    assert_eq!(silence, ("near".to_owned(), 1));
    desk.tell(talk(false));
    let silence: (String, u32) = signal(&mut mine, "SilenceTimeout").await;
    assert_eq!(silence, ("far".to_owned(), 1));

    invoke(&desk.client, CALL, names::CALL_STATISTICS, "UnwatchActivity", &()).await.unwrap();
    late.close().await.unwrap();
    let Request::WatchActivity { call: CallId(1), on: false } = desk.request().await else { panic!() };
    desk.tell(talk(true));
    // A mark that all receive: before it the bystander has received nothing.
    desk.tell(call(2, CallState::Dialing));
    // Everybody is told who speaks, and nothing else.
    loop {
        match desk::next_line(&mut nothing).await.as_str() {
            "Signal PropertiesChanged /org/voipd" => {}
            line => break assert_eq!(line, "Signal InterfacesAdded /org/voipd"),
        }
    }
}

#[tokio::test]
async fn in_a_call_that_has_ended_nobody_talks_and_silence_is_no_event() {
    let mut desk = desk().await;
    let mut mine = MessageStream::from(&desk.client);
    invoke(&desk.client, CALL, names::CALL_STATISTICS, "WatchActivity", &0u32).await.unwrap();
    let Request::WatchActivity { call: CallId(1), on: true } = desk.request().await else { panic!() };
    desk.tell(Update::Activity { call: CallId(1), heard: Heard::Far, talking: true, level_dbov: -20 });
    desk.tell(call(1, CallState::Ended));
    for expected in [("far".to_owned(), true, -20.0), ("far".to_owned(), false, -127.0)] {
        let told: (String, bool, f64) = signal(&mut mine, "ActivityChanged").await;
        assert_eq!(told, expected);
    }
    let asked = (names::MANAGER, "ActiveSpeaker");
    let properties = "org.freedesktop.DBus.Properties";
    let reply = invoke(&desk.client, "/org/voipd", properties, "Get", &asked).await.unwrap();
    let speaker: OwnedVariant = reply.body().deserialize().unwrap();
    assert_eq!(zbus::OwnedObjectPath::try_from(speaker).unwrap().as_str(), "/");

    invoke(&desk.client, CALL, names::CALL_STATISTICS, "WatchActivity", &1u32).await.unwrap();
    let silence = async {
        let told: (String, u32) = signal(&mut mine, "SilenceTimeout").await;
        told
    };
    let told = tokio::time::timeout(std::time::Duration::from_millis(1500), silence).await;
    assert!(told.is_err(), "{told:?}");
}

#[tokio::test]
async fn silence_counts_only_while_the_call_is_active() {
    let mut desk = desk().await;
    desk.tell(call(1, CallState::Ringing));
    let mut mine = MessageStream::from(&desk.client);
    invoke(&desk.client, CALL, names::CALL_STATISTICS, "WatchActivity", &1u32).await.unwrap();
    let Request::WatchActivity { call: CallId(1), on: true } = desk.request().await else { panic!() };
    for state in [CallState::Ringing, CallState::Held] {
        desk.tell(call(1, state));
        let silence = signal::<(String, u32)>(&mut mine, "SilenceTimeout");
        let told = tokio::time::timeout(std::time::Duration::from_millis(1500), silence).await;
        assert!(told.is_err(), "{state:?}: {told:?}");
        desk.tell(call(1, CallState::Active));
        for heard in ["near", "far"] {
            let told: (String, u32) = signal(&mut mine, "SilenceTimeout").await;
            assert_eq!(told, (heard.to_owned(), 1));
        }
    }
}

#[tokio::test]
async fn a_warning_goes_to_everybody() {
    let desk = desk().await;
    let other = desk.private.client().await;
    let mut others = MessageStream::from(&other);
    let _rule = desk::subscribe(&other).await;
    let warning = Warning { flow: Flow::Outbound, poor: true, opinion: 2.5, cause: Cause::Loss };
    desk.tell(Update::QualityChanged { call: CallId(1), warning });
    let told: (String, String, f64, String) = signal(&mut others, "QualityChanged").await;
    assert_eq!(told, ("outbound".to_owned(), "poor".to_owned(), 2.5, "loss".to_owned()));
}

#[tokio::test]
async fn who_speaks_in_a_conference_is_listened_for_only_while_somebody_watches() {
    let mut desk = desk().await;
    desk.tell(call(2, CallState::Active));
    desk.tell(desk::conference(3, &[(1, false), (2, true)]));
    let mut messages = desk::subscribe(&desk.client).await;
    let path = "/org/voipd/conference/3";
    invoke(&desk.client, path, names::CONFERENCE, "WatchSpeaker", &()).await.unwrap();
    let Request::WatchActivity { call: CallId(1), on: true } = desk.request().await else { panic!() };
    let speaks = |call, talking| Update::Activity { call, heard: Heard::Far, talking, level_dbov: -20 };
    desk.tell(speaks(CallId(1), true));
    let speaker = async |messages: &mut MessageStream| loop {
        let message = messages.next().await.unwrap().unwrap();
        let Some(changed) = message.header().path().map(|at| at.as_str() == path) else { continue };
        if changed && message.header().member().is_some_and(|member| member == "PropertiesChanged") {
            let (_, properties, _): (String, HashMap<String, OwnedVariant>, Vec<String>) =
                message.body().deserialize().unwrap();
            if let Some(speaker) = properties.get("ActiveSpeaker") {
                return zbus::OwnedObjectPath::try_from(speaker.try_clone().unwrap()).unwrap().to_string();
            }
        }
    };
    assert_eq!(speaker(&mut messages).await, "/org/voipd/call/1");

    // One that is muted no more is listened to as well, and may be the speaker.
    desk.tell(desk::conference(3, &[(1, false), (2, false)]));
    let Request::WatchActivity { call: CallId(2), on: true } = desk.request().await else { panic!() };
    desk.tell(speaks(CallId(2), true));
    assert_eq!(speaker(&mut messages).await, "/org/voipd/call/2");

    invoke(&desk.client, path, names::CONFERENCE, "UnwatchSpeaker", &()).await.unwrap();
    assert_eq!(speaker(&mut messages).await, "/");
    for _ in 0..2 {
        let Request::WatchActivity { on: false, .. } = desk.request().await else { panic!() };
    }
}
