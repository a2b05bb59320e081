//! SIPp: a peer that follows a script to the letter, and fails when the other side does not.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use crate::process::{Process, on_time, program};
use crate::sockets::{Transport, listens};
use crate::{Lab, pause};

/// SIPp's port for sound.
const MEDIA_PORT: u16 = 6000;

/// Media description with one audio line: payload types with their `rtpmap` values, and lines to add.
pub fn audio(payloads: &[(u8, &str)], more: &[&str]) -> String {
    let mut sdp = format!(
        "v=0\no=peer 1 [cseq] IN IP4 [local_ip]\ns=-\nc=IN IP4 [local_ip]\nt=0 0\nm=audio {MEDIA_PORT} RTP/AVP"
    );
    for (payload, _) in payloads {
        write!(sdp, " {payload}").unwrap();
    }
    for (payload, map) in payloads {
        write!(sdp, "\na=rtpmap:{payload} {map}").unwrap();
    }
    for line in more {
        write!(sdp, "\n{line}").unwrap();
    }
    sdp
}

/// Media description with PCMU and telephone-event, and lines to add.
pub fn pcmu(more: &[&str]) -> String {
    audio(&[(0, "PCMU/8000"), (101, "telephone-event/8000")], &[&["a=fmtp:101 0-15"], more].concat())
}

/// What SIPp does and expects, step by step; becomes a scenario file.
#[derive(Clone, Debug)]
pub struct Script {
    steps: String,
    /// How many steps there are.
    count: usize,
    /// Which step sent the last INVITE.
    invite: usize,
    caller: bool,
    /// Whether sound is sent back.
    echoes: bool,
}

impl Script {
    /// A script that begins with an INVITE to the other side.
    pub fn caller() -> Self {
        Self { steps: String::new(), count: 0, invite: 0, caller: true, echoes: true }
    }

    /// A script that begins with an INVITE from the other side.
    pub fn callee() -> Self {
        Self { steps: String::new(), count: 0, invite: 0, caller: false, echoes: true }
    }

    /// The steps of a scenario file in `tests/interop/`; as callee or as caller, as they begin.
    pub fn scenario(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("interop/{name}.xml"));
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let inner = text.split_once("<scenario").and_then(|(_, rest)| rest.split_once('>'));
        let steps = inner.and_then(|(_, rest)| rest.split_once("</scenario>")).expect("a scenario").0;
        let steps = steps.split("<Reference").next().unwrap_or_default().to_owned();
        let caller = steps.trim_start().starts_with("<send");
        let count = steps.matches("<recv").count() + steps.matches("<send").count();
        Self { steps, count, invite: 0, caller, echoes: true }
    }

    /// As callee: waits for the INVITE and keeps what later requests need.
    pub fn invited(self) -> Self {
        self.step(
            r#"<recv request="INVITE"><action>
<ereg regexp=".*" search_in="hdr" header="From:" check_it="true" assign_to="from"/>
<ereg regexp=".*" search_in="hdr" header="To:" check_it="true" assign_to="to"/>
<ereg regexp="sip:[^>]*" search_in="hdr" header="Contact:" check_it="true" assign_to="contact"/>
<ereg regexp=".*" search_in="hdr" header="Via:" check_it="true" assign_to="via"/>
<ereg regexp="[0-9]+" search_in="hdr" header="CSeq:" check_it="true" assign_to="number"/>
</action></recv>"#,
        )
    }

    /// Answers the request that came last.
    pub fn reply(self, status: &str) -> Self {
        self.reply_with(status, "", "")
    }

    /// Answers the request that came last, with header lines and a media description.
    pub fn reply_with(self, status: &str, headers: &str, sdp: &str) -> Self {
        self.response(status, headers, sdp, "")
    }

    /// Answers the INVITE with a media description, again and again until the ACK comes.
    pub fn answer(self, sdp: &str) -> Self {
        self.response("200 OK", "", sdp, " retrans=\"500\"")
    }

    /// As callee: answers the first INVITE, though another request has come since.
    pub fn reply_to_invite(self, status: &str, sdp: &str) -> Self {
        let text = format!(
            "SIP/2.0 {status}\nVia:[$via]\nFrom:[$from]\nTo:[$to];tag=[call_number]\n[last_Call-ID:]\n\
             CSeq: [$number] INVITE\nContact: <sip:peer@[local_ip]:[local_port]>"
        );
        self.send(&text, sdp, "")
    }

    fn response(self, status: &str, headers: &str, sdp: &str, attributes: &str) -> Self {
        // Within a dialog the tag is there already, and twice it is refused.
        let tag = if self.in_dialog() { "" } else { ";tag=[call_number]" };
        let text = format!(
            "SIP/2.0 {status}\n[last_Via:]\n[last_From:]\n[last_To:]{tag}\n[last_Call-ID:]\n[last_CSeq:]\n\
             Contact: <sip:peer@[local_ip]:[local_port]>\n{headers}"
        );
        self.send(&text, sdp, attributes)
    }

    /// As caller: sends the first INVITE. Without a media description, the other side has to offer.
    pub fn invite(self, sdp: &str) -> Self {
        self.invite_as("INVITE sip:phone@[remote_ip]:[remote_port] SIP/2.0", "", sdp)
    }

    /// As caller: sends the first INVITE with a request line and header lines of its own.
    pub fn invite_as(mut self, line: &str, headers: &str, sdp: &str) -> Self {
        self.invite = self.count;
        let text = format!(
            "{line}\nVia: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\nMax-Forwards: 70\n\
             From: \"Peer\" <sip:peer@[local_ip]:[local_port]>;tag=[call_number]\n\
             To: <sip:phone@[remote_ip]:[remote_port]>\nCall-ID: [call_id]\nCSeq: [cseq] INVITE\n\
             Contact: <sip:peer@[local_ip]:[local_port]>\n{headers}"
        );
        self.send(&text, sdp, " retrans=\"500\"")
    }

    /// Sends a request within the dialog.
    pub fn request(self, method: &str, sdp: &str) -> Self {
        let retransmission = if method == "ACK" { "" } else { " retrans=\"500\"" };
        let identity = if self.caller {
            "From: \"Peer\" <sip:peer@[local_ip]:[local_port]>;tag=[call_number]\n\
             To: <sip:phone@[remote_ip]:[remote_port]>[peer_tag_param]"
        } else {
            "From:[$to];tag=[call_number]\nTo:[$from]"
        };
        let target = if self.caller { "[next_url]" } else { "[$contact]" };
        let text = format!(
            "{method} {target} SIP/2.0\nVia: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\nMax-Forwards: 70\n\
             {identity}\nCall-ID: [call_id]\nCSeq: [cseq] {method}\nContact: <sip:peer@[local_ip]:[local_port]>\n"
        );
        self.send(&text, sdp, retransmission)
    }

    /// Sends a message as it is; a media description gets its headers.
    pub fn send(self, text: &str, sdp: &str, attributes: &str) -> Self {
        let text = text.trim_end();
        let kind = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\n" };
        let message = format!("{text}\n{kind}Content-Length: [len]\n\n{sdp}\n");
        self.step(&format!("<send{attributes}><![CDATA[\n{message}]]></send>"))
    }

    /// As caller: takes back the INVITE.
    pub fn cancel(self) -> Self {
        self.in_transaction("CANCEL", "To: <sip:phone@[remote_ip]:[remote_port]>")
    }

    /// As caller: acknowledges a refusal (RFC 3261 section 17.1.1.3).
    pub fn acknowledge_refusal(self) -> Self {
        self.in_transaction("ACK", "[last_To:]")
    }

    /// A request with the branch of the INVITE.
    fn in_transaction(self, method: &str, to: &str) -> Self {
        let back = self.count - self.invite;
        let text = format!(
            "{method} sip:phone@[remote_ip]:[remote_port] SIP/2.0\n\
             Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch-{back}]\nMax-Forwards: 70\n\
             From: \"Peer\" <sip:peer@[local_ip]:[local_port]>;tag=[call_number]\n{to}\n\
             Call-ID: [call_id]\nCSeq: [cseq] {method}"
        );
        self.send(&text, "", "")
    }

    /// Speaks a file (see [`raw`](crate::speech::raw)) once, and sends no sound back.
    pub fn speak(mut self, file: &Path) -> Self {
        // What speaks has a port of its own.
        let port = |port: &str| format!("m=audio {port} ");
        self.steps = self.steps.replace(&port(&MEDIA_PORT.to_string()), &port("[rtpstream_audio_port]"));
        self.echoes = false;
        self.step(&format!("<nop><action><exec rtp_stream=\"{},1,0\"/></action></nop>", file.display()))
    }

    /// Waits for a request.
    pub fn receive(self, method: &str) -> Self {
        self.step(&format!("<recv request=\"{method}\"/>"))
    }

    /// Waits for a request in one of whose headers, or in whose body, a pattern matches.
    pub fn receive_with(self, method: &str, pattern: &str) -> Self {
        self.step(&format!("<recv request=\"{method}\"><action>{}</action></recv>", found(pattern)))
    }

    /// Waits for a response.
    pub fn expect(self, status: u16) -> Self {
        self.step(&format!("<recv response=\"{status}\" rrs=\"true\"/>"))
    }

    /// Waits for a response in which a pattern matches.
    pub fn expect_with(self, status: u16, pattern: &str) -> Self {
        self.step(&format!(
            "<recv response=\"{status}\" rrs=\"true\"><action>{}</action></recv>",
            found(pattern)
        ))
    }

    /// A response that may come or not before the next step.
    pub fn perhaps(self, status: u16) -> Self {
        self.step(&format!("<recv response=\"{status}\" optional=\"true\"/>"))
    }

    /// Does nothing for so many milliseconds.
    pub fn pause(self, milliseconds: u32) -> Self {
        self.step(&format!("<pause milliseconds=\"{milliseconds}\"/>"))
    }

    /// As caller: the usual beginning, up to the ACK.
    pub fn call(self, sdp: &str) -> Self {
        self.invite(sdp).perhaps(100).perhaps(180).expect(200).request("ACK", "")
    }

    /// Ends the call.
    pub fn hang_up(self) -> Self {
        self.request("BYE", "").expect(200)
    }

    /// Waits until the other side ends the call.
    pub fn hung_up(self) -> Self {
        self.receive("BYE").reply_with("200 OK", "", "")
    }

    /// Adds a step in SIPp's own words.
    pub fn step(mut self, xml: &str) -> Self {
        self.steps.push_str(xml);
        self.steps.push('\n');
        self.count += 1;
        self
    }

    fn in_dialog(&self) -> bool {
        self.caller || self.steps.contains("request=\"ACK\"")
    }

    /// The scenario file.
    pub(crate) fn xml(&self) -> String {
        let variables = ["from", "to", "contact", "via", "number", "rseq", "found"];
        let used: Vec<&str> =
            variables.into_iter().filter(|v| self.steps.contains(&format!("assign_to=\"{v}\""))).collect();
        let reference = match used.as_slice() {
            [] => String::new(),
            used => format!("<Reference variables=\"{}\"/>\n", used.join(",")),
        };
        format!(
            "<?xml version=\"1.0\" encoding=\"ISO-8859-1\" ?>\n<scenario name=\"script\">\n{}{reference}</scenario>\n",
            self.steps
        )
    }
}

fn found(pattern: &str) -> String {
    format!("<ereg regexp=\"{pattern}\" search_in=\"msg\" check_it=\"true\" assign_to=\"found\"/>")
}

/// A running SIPp.
#[derive(Debug)]
pub struct Sipp {
    /// Where it listens, on port 5060.
    pub address: Ipv4Addr,
    process: Process,
    files: PathBuf,
}

impl Sipp {
    /// Waits for a call and follows the script; sends back the sound that it gets.
    pub async fn callee(lab: &Lab, script: Script) -> Self {
        Self::callee_at(lab, lab.address(), script, &[]).await
    }

    /// Waits for calls at an address, with further options.
    pub async fn callee_at(lab: &Lab, address: Ipv4Addr, script: Script, options: &[&str]) -> Self {
        let sipp = Self::start(lab, address, &script, None, options);
        let transport = if options.contains(&"t1") { Transport::Tcp } else { Transport::Udp };
        for _ in 0..300 {
            if listens(sipp.process.id(), transport, Some(sipp.address), 5060) {
                return sipp;
            }
            pause(0.02).await;
        }
        panic!("SIPp does not listen:\n{}", sipp.said());
    }

    /// Calls the target and follows the script; sends back the sound that it gets.
    pub fn caller(lab: &Lab, target: Ipv4Addr, script: Script) -> Self {
        Self::start(lab, lab.address(), &script, Some(target), &[])
    }

    /// Calls the target from an address, with further options.
    pub fn caller_at(
        lab: &Lab,
        address: Ipv4Addr,
        target: Ipv4Addr,
        script: Script,
        options: &[&str],
    ) -> Self {
        Self::start(lab, address, &script, Some(target), options)
    }

    fn start(
        lab: &Lab,
        address: Ipv4Addr,
        script: &Script,
        target: Option<Ipv4Addr>,
        options: &[&str],
    ) -> Self {
        let files = tempfile::Builder::new().prefix("sipp.").tempdir_in(lab.root()).unwrap().keep();
        std::fs::write(files.join("script.xml"), script.xml()).unwrap();
        let mut command = program("sipp");
        if let Some(target) = target {
            command.arg(format!("{target}:5060"));
        }
        command.args(["-sf", "script.xml", "-p", "5060", "-i"]).arg(address.to_string());
        command.arg("-mi").arg(address.to_string()).arg("-mp").arg(MEDIA_PORT.to_string());
        if script.echoes {
            command.arg("-rtp_echo");
        }
        command.args(["-nostdin", "-skip_rlimit", "-cid_str", "%u-%p@%s"]);
        command.args(["-trace_err", "-error_file", "errors", "-trace_msg", "-message_file", "messages"]);
        if !options.contains(&"-m") {
            command.args(["-m", "1"]);
        }
        command.args(options).current_dir(&files);
        let process = Process::start("SIPp", on_time(&command), &files.join("screen"));
        Self { address, process, files }
    }

    /// Waits until the script is over; panics when the other side did not follow it.
    pub async fn succeeds(mut self) {
        let status = self.process.wait(Duration::from_secs(40)).await;
        assert!(status.success(), "SIPp's script failed ({status}):\n{}", self.said());
    }

    /// The messages that were sent and received so far.
    pub fn messages(&self) -> String {
        std::fs::read_to_string(self.files.join("messages")).unwrap_or_default()
    }

    /// Everything that it printed.
    pub fn screen(&self) -> String {
        self.process.output()
    }

    /// Ends it without a word to the peer, as a power cut does.
    pub fn cut(&mut self) {
        self.process.cut();
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    fn said(&self) -> String {
        let errors = std::fs::read_to_string(self.files.join("errors")).unwrap_or_default();
        format!("{errors}\n--- messages ---\n{}", self.messages())
    }
}
