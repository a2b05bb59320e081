//! What the real-time side does with sound, one file for each behaviour.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod bare;
mod counting;
mod support;
mod world;

mod activity;
mod all_codecs;
mod any_packets;
mod care;
mod closing;
mod codec;
mod codec_change;
mod commands;
mod concealment;
mod conference;
mod devices;
mod dred;
mod drift;
mod dtmf;
mod echo;
mod gap_work;
mod garbage;
mod hold;
mod insert;
mod jitter;
mod jitter_arbitrary;
mod jitter_sound;
mod left_ticks;
mod moved;
mod mute;
mod no_allocation;
mod programs;
mod quality;
mod redundancy;
mod relayed;
mod resample;
mod silence;
mod speech;
mod ssrc_change;
mod stretch;
mod symmetric_rtp;
mod tick_paths;
mod timing;
mod tone;
mod voice;
mod wideband;
