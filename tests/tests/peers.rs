//! The peers against each other: what the judge finds in a call without voipd is what it may ask of voipd.

use voipd_tests::baresip::{Answer, Baresip};
use voipd_tests::host::Wire;
use voipd_tests::judge::{Codec, Sound, compare};
use voipd_tests::kamailio::{Digest, Kamailio};
use voipd_tests::sipp::{Script, Sipp, pcmu};
use voipd_tests::speech::{Speaker, speech};
use voipd_tests::{Lab, SOON, needs_root, pause, timely, until};

#[timely]
async fn baresip_hears_itself_through_sipp() {
    if !needs_root("baresip_hears_itself_through_sipp") {
        return;
    }
    let lab = Lab::alone();
    let wire = Wire::new();
    let script = Script::callee().invited().reply("180 Ringing").answer(&pcmu(&[])).receive("ACK").hung_up();
    let echo = Sipp::callee_at(&lab, wire.here, script, &[]).await;
    let mut baresip = Baresip::start(&lab, &wire, "PCMU/8000/1", Answer::Manual).await;
    baresip.command("dial", &format!("sip:echo@{}", wire.here)).await;
    baresip.event("CALL_ESTABLISHED").await;
    pause(5.5).await;
    baresip.command("hangup", "").await;
    echo.succeeds().await;
    pause(0.3).await;
    let verdict = compare(&Sound::load(&speech(Speaker::Bob, 8000)), &baresip.heard(), Codec::Waveform);
    verdict.assert_heard("baresip through SIPp's echo", 0.98);
}

#[tokio::test]
async fn sipp_registers_at_kamailio() {
    let lab = Lab::shared();
    let registrar = Kamailio::start(&lab, Digest::Md5).await;
    let request = "REGISTER sip:voipd.test SIP/2.0\nVia: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]\n\
        Max-Forwards: 70\nFrom: <sip:alice@voipd.test>;tag=[call_number]\nTo: <sip:alice@voipd.test>\n\
        Call-ID: [call_id]\nCSeq: [cseq] REGISTER\nContact: <sip:alice@[local_ip]:[local_port]>";
    let credentials = "[authentication username=alice password=alice-secret]";
    let script = Script::caller()
        .send(request, "", " retrans=\"500\"")
        .step("<recv response=\"401\" auth=\"true\"/>")
        .send(&format!("{request}\n{credentials}"), "", " retrans=\"500\"")
        .expect(200);
    Sipp::caller(&lab, registrar.address, script).succeeds().await;
    // It writes its log when it has answered.
    let told = async || registrar.log().contains("REGISTERED alice").then_some(());
    until("the registrar tells who has registered", SOON, told).await;
}
