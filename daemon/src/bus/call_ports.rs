//! `org.voipd.Call1`: files and programs at a call.

use voipd_agent::view::CallId;
use voipd_audio::engine::Side;
use zbus::OwnedFd;
use zbus::message::Body;

use super::options::{Options, Received};
use super::outcome::{Dict, Failure, Outcome, Reply, Requests, arguments, invalid, nothing, unknown_method};
use crate::api::Request;
use crate::api::ports::{
    AudioMode, AudioWish, PlayWish, PortView, PortsRequest, RecordFormat, RecordWish, SIDES, SampleFormat,
    side_name,
};

pub(super) fn call(requests: &Requests, call: CallId, member: &str, body: &Body) -> Result<Outcome, Failure> {
    match member {
        "OpenAudio" => {
            let wish = audio_wish(arguments::<Received>(member, "options", body)?)?;
            let request = |reply| Request::Ports(PortsRequest::OpenAudio { call, wish, reply });
            requests.ask(request, |socket| Ok(Reply::File(socket.into())))
        }
        "OpenAudioSocket" => {
            let wish = audio_wish(arguments::<Received>(member, "options", body)?)?;
            let request = |reply| Request::Ports(PortsRequest::OpenAudioSocket { call, wish, reply });
            requests.ask(request, |path| Ok(Reply::Text(path)))
        }
        "Play" => {
            let (file, options): (OwnedFd, Received) = arguments(member, "an open file and options", body)?;
            let mut options = Options::new(options);
            let mode = options.choice("mode", &[AudioMode::Inject, AudioMode::Replace], AudioMode::name)?;
            let looped = options.flag("repeat")?.unwrap_or(false);
            options.finish()?;
            let wish = PlayWish { instead: mode == Some(AudioMode::Replace), looped };
            let file = file.into();
            requests.order(|reply| Request::Ports(PortsRequest::Play { call, file, wish, reply }))
        }
        "StopPlaying" => {
            nothing(member, body)?;
            requests.order(|reply| Request::Ports(PortsRequest::StopPlaying { call, reply }))
        }
        "StartRecording" => {
            let (file, options): (OwnedFd, Received) = arguments(member, "an open file and options", body)?;
            let mut options = Options::new(options);
            let usual = RecordWish::default();
            let wish = RecordWish {
                side: options.choice("side", &SIDES, side_name)?.flatten().unwrap_or(usual.side),
                format: options
                    .choice("format", &RecordFormat::ALL, RecordFormat::name)?
                    .unwrap_or(usual.format),
            };
            options.finish()?;
            let file = file.into();
            requests.order(|reply| Request::Ports(PortsRequest::StartRecording { call, file, wish, reply }))
        }
        "StopRecording" => {
            nothing(member, body)?;
            requests.order(|reply| Request::Ports(PortsRequest::StopRecording { call, reply }))
        }
        "ListPorts" => {
            nothing(member, body)?;
            let request = |reply| Request::Ports(PortsRequest::List { call, reply });
            requests.ask(request, |ports| Ok(Reply::Dicts(ports.into_iter().map(port).collect())))
        }
        _ => Err(unknown_method(member)),
    }
}

fn audio_wish(options: Received) -> Result<AudioWish, Failure> {
    let mut options = Options::new(options);
    let mode = options.choice("mode", &AudioMode::ALL, AudioMode::name)?.unwrap_or(AudioMode::Tap);
    let format = options.choice("format", &SampleFormat::ALL, SampleFormat::name)?;
    let all = [SIDES.as_slice(), &[None]].concat();
    let side = options.choice("side", &all, side_name)?.unwrap_or(Some(Side::Far));
    let rate = options.number("rate")?.unwrap_or(16_000);
    let end_with_input = options.flag("end-with-input")?.unwrap_or(false);
    options.finish()?;
    if !AudioWish::RATES.contains(&rate) {
        let (least, most) = (AudioWish::RATES.start(), AudioWish::RATES.end());
        return Err(invalid(format!("the rate is {rate} Hz: give {least} to {most}")));
    }
    if mode == AudioMode::Tap && side.is_none() {
        return Err(invalid("a tap that hears nothing does nothing: choose another side, or another mode"));
    }
    if mode == AudioMode::Tap && end_with_input {
        return Err(invalid(
            "a tap has no input to end with: leave 'end-with-input' out, or choose another mode",
        ));
    }
    Ok(AudioWish { mode, format: format.unwrap_or(SampleFormat::S16le), rate, side, end_with_input })
}

fn port(view: PortView) -> Dict {
    let mut dict = Dict::from([
        ("kind", view.kind.into()),
        ("open", view.open.into()),
        ("dropped-ms", view.dropped_ms.into()),
    ]);
    if let Some(AudioWish { mode, format, rate, side, .. }) = view.program {
        dict.insert("mode", mode.name().into());
        dict.insert("format", format.name().into());
        dict.insert("rate", rate.into());
        dict.insert("side", side_name(side).into());
    }
    dict
}
