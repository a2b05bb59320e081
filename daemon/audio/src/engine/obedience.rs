//! What the control side has commanded is carried out here, at the beginning of a tick.

use crate::engine::MediaSocket;
use crate::engine::command::{Command, Returned};
use crate::engine::port::{Kind, Port, SourceFrame};
use crate::engine::processor::Processor;
use crate::plan::EngineEvent;

impl<S: MediaSocket> Processor<S> {
    /// Executes what the control side has commanded, in order, as long as there is room to hand back what that
    /// replaces.
    pub(crate) fn obey(&mut self) {
        while self.returned.slots() > 0
            && let Ok(command) = self.commands.pop()
        {
            // The control side may have more than the queue took.
            self.outbox.told = true;
            if let Some(returned) = self.execute(command) {
                // There is room: this side alone fills the queue.
                let _ = self.returned.push(returned);
            }
        }
    }

    fn execute(&mut self, command: Command<S>) -> Option<Returned<S>> {
        let rearranges = matches!(
            command,
            Command::Open { .. } | Command::Close { .. } | Command::Plan { .. } | Command::Connect { .. }
        );
        if rearranges {
            self.mixer.changed();
            self.outbox.calm = 0;
        }
        match command {
            Command::Open { slot, mut port } => {
                // The slot is free: the control side gives it to one port at a time.
                std::mem::swap(self.ports.get_mut(slot)?, &mut port);
                self.open.insert(slot);
                while self.frames.len() <= slot && self.frames.len() < self.frames.capacity() {
                    self.frames.push(SourceFrame::SILENT);
                }
                Some(Returned::Port { _port: port })
            }
            Command::Close { slot, mut room } => {
                *room = self.ports.get_mut(slot)?.take();
                self.open.remove(slot);
                if let Some(frame) = self.frames.get_mut(slot) {
                    frame.rate = 0;
                }
                for sink in self.open.iter() {
                    if let Some(Some(port)) = self.ports.get_mut(sink) {
                        port.sources.remove(slot);
                        if let Kind::Program(program) = &mut port.kind {
                            program.stream = program.stream.filter(|stream| *stream != slot);
                        }
                    }
                }
                Some(Returned::Port { _port: room })
            }
            Command::Plan { slot, mut setup } => {
                if let Some(port) = self.port(slot)
                    && let Kind::Stream(stream) = &mut port.kind
                    && let Some(digit) = stream.replace(&mut setup)
                {
                    let event = EngineEvent::DtmfSent { port: port.id, digit };
                    self.outbox.event(event);
                }
                Some(Returned::Setup { _setup: setup })
            }
            Command::Move { slot, socket } => {
                let Some(Port { kind: Kind::Stream(stream), .. }) = self.port(slot) else {
                    return Some(Returned::Socket { _socket: socket });
                };
                Some(Returned::Socket { _socket: stream.move_to(socket) })
            }
            Command::Connect { slot, mut sources } => {
                if let Some(port) = self.port(slot) {
                    std::mem::swap(&mut port.sources, &mut sources);
                }
                Some(Returned::Sources { _sources: sources })
            }
            Command::Mute { slot, muted } => {
                self.port(slot)?.muted = muted;
                None
            }
            Command::Event { slot, digit, duration_ms } => {
                if let Some(port) = self.port(slot)
                    && let Kind::Stream(stream) = &mut port.kind
                    && !stream.send_event(digit, duration_ms)
                {
                    // The control side counts what waits, so this cannot be; were it so, it would be seen.
                    self.outbox.dropped += 1;
                }
                None
            }
            Command::Steer { slot, steering } => {
                if let Kind::Stream(stream) = &mut self.port(slot)?.kind {
                    stream.steer(steering);
                }
                None
            }
            Command::Watch { slot, watch } => {
                let old = match self.port(slot).map(|port| &mut port.kind) {
                    Some(Kind::Stream(stream)) => std::mem::replace(&mut stream.watch, watch),
                    _ => watch,
                };
                old.map(|_watch| Returned::Watch { _watch })
            }
            Command::Relay { slot, relay } => {
                let old = match self.port(slot).map(|port| &mut port.kind) {
                    Some(Kind::Stream(stream)) => stream.attach(relay),
                    _ => relay,
                };
                old.map(|_relay| Returned::Relay { _relay })
            }
            Command::Packet { slot, packet: mut handed } => {
                let Self { ports, outbox, .. } = self;
                if let Some(Some(port)) = ports.get_mut(slot)
                    && let Kind::Stream(stream) = &mut port.kind
                {
                    stream.take(port.id, &mut handed, outbox);
                }
                Some(Returned::Packet { _packet: handed })
            }
            Command::Insert { slot, insert } => {
                let old = match self.port(slot).map(|port| &mut port.kind) {
                    Some(Kind::Device(device)) => std::mem::replace(&mut device.insert, insert),
                    _ => insert,
                };
                old.map(|_insert| Returned::Insert { _insert })
            }
            Command::Volume { slot, gain } => {
                if let Kind::Device(device) = &mut self.port(slot)?.kind {
                    device.set_volume(gain);
                }
                None
            }
            Command::Tone { slot, tone } => {
                let old = match self.port(slot) {
                    Some(port) => std::mem::replace(&mut port.tone, tone),
                    None => tone,
                };
                old.map(|_tone| Returned::Tone { _tone })
            }
        }
    }
}
