//! The network between two engines: which packets it loses and how late it brings the others. It knows no contents.

use crate::world::Seeded;

/// Delay of the network itself, in nanoseconds.
pub const LATENCY: u64 = 15_000_000;

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Channel {
    /// As the table calls it.
    pub name: &'static str,
    /// Share of packets lost, in per cent.
    pub loss: u32,
    /// Mean length of a loss in packets: 1 for losses that do not know each other, else the bad state of a Gilbert
    /// channel.
    pub burst: u32,
    /// Extra delay in milliseconds: the magnitude of a normal distribution with this deviation, at most four times as
    /// much; packets keep their order.
    pub jitter: u32,
    /// Most buffer above the network's own delay with which a cell counts, in milliseconds.
    pub allowed: f64,
}

const fn channel(name: &'static str, loss: u32, burst: u32, jitter: u32, allowed: f64) -> Channel {
    Channel { name, loss, burst, jitter, allowed }
}

/// All that are measured.
pub const CHANNELS: [Channel; 5] = [
    channel("no loss", 0, 1, 0, 60.0),
    channel("3 % random", 3, 1, 0, 60.0),
    channel("10 % random", 10, 1, 0, 60.0),
    channel("10 % in bursts of 3", 10, 3, 0, 60.0),
    channel("jitter 30 ms", 0, 1, 30, 120.0),
];

/// A channel at work.
pub struct Weather {
    channel: Channel,
    random: Seeded,
    bad: bool,
    /// When the packet before arrived.
    last: u64,
}

impl Weather {
    pub fn new(channel: Channel, seed: u64) -> Self {
        Weather { channel, random: Seeded(seed), bad: false, last: 0 }
    }

    /// When a packet that is sent now arrives; `None`: it is lost.
    pub fn arrival(&mut self, now_nanos: u64) -> Option<u64> {
        let Channel { loss, burst, jitter, .. } = self.channel;
        let loss = f64::from(loss) / 100.0;
        if burst > 1 {
            // Leaves the bad state so often that it lasts `burst` packets, and enters it so often that `loss` is right.
            let leave = 1.0 / f64::from(burst);
            let drawn = self.unit();
            self.bad = if self.bad { drawn >= leave } else { drawn < loss * leave / (1.0 - loss) };
        } else {
            self.bad = self.unit() < loss;
        }
        let extra = self.normal().abs().min(4.0) * f64::from(jitter);
        if self.bad {
            return None;
        }
        let due = now_nanos + LATENCY + (extra * 1e6) as u64;
        self.last = self.last.max(due);
        Some(self.last)
    }

    /// 0.0 to 1.0.
    fn unit(&mut self) -> f64 {
        (self.random.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Of deviation 1 (Box and Muller).
    fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.unit().max(1e-12), self.unit());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }
}
