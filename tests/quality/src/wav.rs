//! Mono WAV files of 16 bit.

use std::path::Path;

/// Rate in hertz, and samples from -1 to 1.
pub fn load(file: &Path) -> (u32, Vec<f32>) {
    let mut reader =
        hound::WavReader::open(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    // A synthesiser that writes to a pipe or stops early leaves a wrong length behind: what is there counts.
    let samples = reader.samples::<i16>().map_while(Result::ok).map(|sample| f32::from(sample) / 32768.0);
    let samples = samples.collect();
    (reader.spec().sample_rate, samples)
}

pub fn save(file: &Path, rate: u32, samples: &[f32]) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(file, spec).unwrap();
    for sample in samples {
        writer.write_sample((sample * 32768.0).round().clamp(-32768.0, 32767.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
}
