//! baresip on a far host: a softphone with sound, controlled over its TCP interface.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::authority::Certificate;
use crate::host::{Wire, inside, program_in};
use crate::judge::Sound;
use crate::netlab::Site;
use crate::process::{Process, on_time};
use crate::speech::{Speaker, speech_then_silence};
use crate::{Lab, SOON, until};

/// What it does with a call that comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Rings until told.
    Manual,
    /// Answers at once.
    Auto,
    /// Rings with sound (183) until told.
    Early,
}

/// Where Debian's baresip has its modules.
const MODULES: &str = "/usr/lib/baresip/modules";

/// A running baresip that speaks Bob's sentence and records everything that it hears.
#[derive(Debug)]
pub struct Baresip {
    /// Its address, on port 5060.
    pub address: Ipv4Addr,
    directory: PathBuf,
    /// The namespace that it runs in, and where its own sockets can be reached.
    host: String,
    process: Process,
    control: TcpStream,
    unread: Vec<u8>,
    events: Vec<Value>,
}

impl Baresip {
    /// Starts one on the far host with one codec, such as `PCMU/8000/1`.
    pub async fn start(lab: &Lab, wire: &Wire, codec: &str, answer: Answer) -> Self {
        Self::start_with(lab, wire, codec, answer, "").await
    }

    /// The same with TLS at port 5061: with a certificate of its own, and an authority that it believes.
    pub async fn start_with_tls(
        lab: &Lab,
        wire: &Wire,
        codec: &str,
        answer: Answer,
        certificate: &Certificate,
        authority: &Path,
    ) -> Self {
        // It wants both in one file.
        let own = lab.path("baresip.pem");
        std::fs::write(&own, format!("{}{}", certificate.key, certificate.chain)).unwrap();
        let lines = format!("sip_certificate {}\nsip_cafile {}\n", own.display(), authority.display());
        Self::start_with(lab, wire, codec, answer, &lines).await
    }

    /// Starts one with lines of its own in its configuration.
    pub async fn start_with(lab: &Lab, wire: &Wire, codec: &str, answer: Answer, lines: &str) -> Self {
        let account = format!("<sip:bob@{}>;regint=0", wire.there);
        Self::start_in(lab, wire.name(), wire.there, codec, answer, &account, lines).await
    }

    /// Starts one at a site of the NAT laboratory, with an account and lines of its own in its configuration.
    pub async fn at_site(
        lab: &Lab,
        site: &Site,
        codec: &str,
        answer: Answer,
        account: &str,
        lines: &str,
    ) -> Self {
        Self::start_in(lab, site.client().name(), site.address, codec, answer, account, lines).await
    }

    async fn start_in(
        lab: &Lab,
        host: &str,
        address: Ipv4Addr,
        codec: &str,
        answer: Answer,
        account: &str,
        lines: &str,
    ) -> Self {
        let directory = lab.directory(&format!("baresip-{host}"));
        // As codecs are written there: name, rate of the sound, channels.
        let mut shape = codec.split('/').skip(1).map(|number| number.parse::<u32>().unwrap());
        let (rate, channels) = (shape.next().unwrap(), shape.next().unwrap());
        let file = speech_then_silence(Speaker::Bob, rate, channels);
        let (file, scratch) = (file.display(), directory.display());
        // `aubridge` is a loudspeaker that nobody hears: without one it would not decode. `sndfile` records.
        let config = format!(
            "sip_listen {address}:5060\naudio_player aubridge,nobody\naudio_source aufile,{file}\n\
             audio_alert aubridge,nobody\nausrc_srate {rate}\nauplay_srate {rate}\nausrc_channels {channels}\n\
             auplay_channels {channels}\nrtp_ports 20000-20200\njitter_buffer_delay 2-10\nopus_bitrate 64000\n\
             ctrl_tcp_listen {address}:4444\ncons_listen {address}:5555\nmodule_path {MODULES}\nmodule_app account.so\nmodule_app menu.so\n\
             module_app ctrl_tcp.so\nmodule cons.so\nmodule g711.so\nmodule g722.so\nmodule opus.so\nmodule aufile.so\nmodule aubridge.so\n\
             module sndfile.so\nsnd_path {scratch}\n{lines}"
        );
        std::fs::write(directory.join("config"), config).unwrap();
        let answer = match answer {
            Answer::Manual => "manual",
            Answer::Auto => "auto",
            Answer::Early => "early",
        };
        let account = format!("{account};answermode={answer};audio_codecs={codec}\n");
        std::fs::write(directory.join("accounts"), account).unwrap();
        std::fs::write(directory.join("contacts"), "").unwrap();
        let mut command = program_in(host, "baresip");
        command.arg("-f").arg(&directory).arg("-4");
        let mut process = Process::start("baresip", on_time(&command), &directory.join("log"));
        process.says("baresip is ready").await;
        let control = SocketAddr::from((address, 4444));
        let connect = || std::net::TcpStream::connect(control).ok();
        let control = until("baresip takes commands", SOON, async || inside(host, connect)).await;
        control.set_nonblocking(true).unwrap();
        let control = TcpStream::from_std(control).unwrap();
        let host = host.to_owned();
        Self { address, directory, host, process, control, unread: Vec::new(), events: Vec::new() }
    }

    /// Waits until its registrar has taken it. Its event may come before anybody listens.
    pub async fn registered(&mut self) {
        self.process.says("200 OK (registrar)").await;
    }

    /// Sends a command of its menu, such as `dial` or `hold`, and waits for its answer.
    pub async fn command(&mut self, command: &str, parameters: &str) {
        let text = json!({ "command": command, "params": parameters, "token": command }).to_string();
        let netstring = format!("{}:{text},", text.len());
        self.control.write_all(netstring.as_bytes()).await.unwrap();
        let answer = self.next(|message| message["response"] == true).await;
        assert_eq!(answer["ok"], true, "baresip refuses {command}: {answer}");
    }

    /// Presses and releases keys of its telephone keypad during a call.
    pub fn press(&mut self, keys: &str) {
        let console = inside(&self.host, || std::net::UdpSocket::bind("0.0.0.0:0").unwrap());
        // End of transmission is baresip's word for the release of a key.
        let keys: String = keys.chars().flat_map(|key| [key, '\u{4}']).collect();
        console.send_to(keys.as_bytes(), (self.address, 5555)).unwrap();
    }

    /// Waits for an event such as `CALL_ESTABLISHED`; each is seen once.
    pub async fn event(&mut self, kind: &str) -> Value {
        self.next(|message| message["type"] == kind).await
    }

    async fn next(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = tokio::time::Instant::now() + SOON;
        loop {
            if let Some(index) = self.events.iter().position(&wanted) {
                return self.events.remove(index);
            }
            let mut buffer = [0; 4096];
            let read = tokio::time::timeout_at(end, self.control.read(&mut buffer)).await;
            let Ok(read) = read else {
                panic!("baresip did not tell what was waited for, only {:?}", self.events);
            };
            let length = read.unwrap();
            assert!(length > 0, "baresip has closed its control connection");
            self.unread.extend_from_slice(&buffer[..length]);
            while let Some(message) = self.netstring() {
                self.events.push(message);
            }
        }
    }

    fn netstring(&mut self) -> Option<Value> {
        let colon = self.unread.iter().position(|byte| *byte == b':')?;
        let length: usize = std::str::from_utf8(&self.unread[..colon]).unwrap().parse().unwrap();
        let end = colon + 1 + length;
        if self.unread.len() <= end {
            return None;
        }
        let message = serde_json::from_slice(&self.unread[colon + 1..end]).unwrap();
        self.unread.drain(..=end);
        Some(message)
    }

    /// What it has heard in its last call; the call is over.
    pub fn heard(&self) -> Sound {
        let files = std::fs::read_dir(&self.directory).unwrap();
        let mut recordings: Vec<PathBuf> = files
            .map(|file| file.unwrap().path())
            .filter(|path| path.to_string_lossy().ends_with("-dec.wav"))
            .collect();
        recordings.sort();
        Sound::load(recordings.last().expect("baresip has recorded nothing"))
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its log.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Ends it without a word to the peer, as a power cut does.
    pub fn cut(&mut self) {
        self.process.cut();
    }
}
