//! Links as they are found: many rates, routers with short and long queues, others' traffic, capacity that comes and goes;
//! each with several seeds, over minutes of virtual time.

use std::time::Duration;

use crate::adaptation::{OPUS, Trial, longest_queue, mean_sent};

const SEEDS: std::ops::Range<u64> = 11..17;

#[test]
fn explore() {
    {
        let mut trial = Trial::seeded(OPUS, 16);
        trial.there.rate = 20_000.0;
        trial.run(300);
        trial.show();
        println!("END");
    }
    for kbits in [32, 20] {
        for queue in [150, 300, 1000, 4000] {
            for seed in SEEDS {
                let mut trial = Trial::seeded(OPUS, seed);
                trial.there.rate = f64::from(kbits) * 1000.0;
                trial.there.longest = Duration::from_millis(queue);
                trial.run(300);
                let s = trial.since(40);
                let (a, b) = (s.first().unwrap().packets, s.last().unwrap().packets);
                let lost = 1.0 - (b.1 - a.1) as f64 / (b.0 - a.0) as f64;
                println!("{kbits} queue {queue} seed {seed}: longest {:?}, over 150: {}, sent {:.0}, lost {lost:.4}", longest_queue(s), s.iter().filter(|s| s.queue > Duration::from_millis(150)).count(), mean_sent(s));
            }
        }
    }
    for (name, rate, others) in [("64/30", 64_000.0, 30_000.0), ("100/70", 100_000.0, 70_000.0), ("48/12", 48_000.0, 12_000.0)] {
        for seed in SEEDS {
            let mut trial = Trial::seeded(OPUS, seed);
            trial.there.rate = rate;
            trial.there.longest = Duration::from_millis(1000);
            for turn in 0..8 {
                trial.there.others = if turn % 2 == 1 { others } else { 0.0 };
                trial.run(40);
            }
            let s = trial.since(40);
            let over = |ms| s.iter().filter(|s| s.queue > Duration::from_millis(ms)).count();
            println!("others {name} seed {seed}: longest {:?}, over 200: {} 400: {}, of {} sent {:.0}", longest_queue(s), over(200), over(400), s.len(), mean_sent(s));
        }
    }
    for losses in [30, 100, 200] {
        for seed in SEEDS {
            let mut trial = Trial::seeded(OPUS, seed);
            trial.there.losses = losses;
            trial.run(300);
            let s = trial.since(60);
            println!("losses {losses} seed {seed} sent {:.0}", mean_sent(s));
        }
    }
}
