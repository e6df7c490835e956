//! Random scripts, each made from a seed and a number alone.

use fastrand::Rng;

use super::script::{MODEST, Script, Side, Step};

/// Sizes around what the program treats differently: the limit of the replay, and its buffers.
const SIZES: [usize; 14] = [
    0, 1, 100, // small
    1023, 1024, 1025, // LEAST
    4095, 4096, 4097, // the limit of the replay
    16_384, 16_385, // on an accept thread
    65_535, 65_536, 65_537, // on a pool thread
];

/// More than the program and the kernel's first buffers hold.
pub const BULK: usize = 3_000_000;

/// The script with this number.
pub fn script(seed: u64, number: usize) -> Script {
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut rng = Rng::with_seed(mixed.wrapping_add(number as u64));
    loop {
        let script = Draft::new(&mut rng).write();
        if script.is_sound() {
            return script;
        }
    }
}

/// A script that is being written, as if its steps came one after the other.
struct Draft<'a> {
    rng: &'a mut Rng,
    script: Script,
    /// Who may send much.
    bulk: Option<Side>,
}

impl Draft<'_> {
    fn new(rng: &mut Rng) -> Draft<'_> {
        let bulk = (rng.u8(..100) < 4).then(|| *rng.choice(&Side::BOTH).unwrap_or(&Side::Host));
        Draft { rng, script: Script::new(&[], &[]), bulk }
    }

    fn write(mut self) -> Script {
        if let Some(side) = self.bulk {
            self.maybe_pause(side);
            self.add(side, Step::Send(BULK));
        }
        for _ in 0..self.rng.usize(..8) {
            let side = self.either();
            self.any(side);
        }
        let first = self.either();
        self.finish(first);
        self.finish(first.other());
        self.script
    }

    fn either(&mut self) -> Side {
        if self.rng.bool() { Side::Client } else { Side::Host }
    }

    fn add(&mut self, side: Side, step: Step) {
        self.script.steps_mut(side).push(step);
    }

    fn maybe_pause(&mut self, side: Side) {
        if self.rng.u8(..5) == 0 {
            let millis = self.rng.u64(1..=15);
            self.add(side, Step::Pause(millis));
        }
    }

    fn is_half_closed(&self, side: Side) -> bool {
        self.script.steps(side).contains(&Step::HalfClose)
    }

    fn sent(&self, side: Side) -> usize {
        self.script.steps(side).iter().map(|step| step.sends()).sum()
    }

    /// What the other has sent so far and this one has not read.
    fn waiting(&self, side: Side) -> usize {
        let read = |step: &Step| match step {
            Step::Read(count) | Step::ReadSlowly(count) => *count,
            _ => 0,
        };
        self.sent(side.other()) - self.script.steps(side).iter().map(read).sum::<usize>()
    }

    /// Any step that is not the last.
    fn any(&mut self, side: Side) {
        let waiting = self.waiting(side);
        let step = match self.rng.u8(..100) {
            0..35 => Step::Send(self.size(side)),
            35..43 => Step::Urgent,
            43..58 => Step::Pause(self.rng.u64(1..=15)),
            58..70 if waiting > 0 => Step::Read(self.rng.usize(1..=waiting)),
            70..76 if waiting > 0 => Step::Read(waiting),
            76..80 if waiting > 0 => Step::ReadSlowly(self.rng.usize(1..=waiting)),
            80..86 if waiting > 0 => Step::AwaitBytes,
            86..95 => Step::AwaitAck,
            95..100 if !self.is_half_closed(side) => Step::HalfClose,
            _ => return,
        };
        if step.sends() == 0 || !self.is_half_closed(side) {
            self.add(side, step);
        }
    }

    fn size(&mut self, side: Side) -> usize {
        let size = match self.rng.u8(..4) {
            0 => self.rng.usize(..40_000),
            _ => *self.rng.choice(&SIZES).unwrap_or(&1),
        };
        if self.bulk == Some(side) { size } else { size.min(MODEST - self.sent(side).min(MODEST)) }
    }

    /// The last steps of one end.
    fn finish(&mut self, side: Side) {
        self.maybe_pause(side);
        let waiting = self.waiting(side);
        let is_half_closed = self.is_half_closed(side);
        let to_end = if self.rng.u8(..5) == 0 { Step::ReadToEndSlowly } else { Step::ReadToEnd };
        let steps: &[Step] = match self.rng.u8(..100) {
            0..30 => &[to_end, Step::Close],
            30..50 if !is_half_closed => &[Step::HalfClose, to_end, Step::Close],
            50..55 => &[to_end, Step::Reset],
            55..65 => &[Step::Read(waiting), Step::Close],
            65..75 => &[Step::Close],
            75..81 if waiting > 0 => &[Step::AwaitBytes, Step::Close],
            81..87 => &[Step::AwaitAck, Step::Close],
            87..93 => &[Step::Reset],
            93..100 => &[Step::AwaitAck, Step::Reset],
            _ => &[to_end, Step::Close],
        };
        self.script.steps_mut(side).extend(steps);
    }
}
