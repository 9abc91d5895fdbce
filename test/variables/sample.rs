//! What Rust adds: enumerations with data, options in niches, slices, references, generics, closures, traits.
#![no_std]
#![no_main]

use core::hint::black_box;

#[derive(Clone, Copy)]
pub enum Exit {
    Halted,
    Port { number: u16, out: bool },
    Memory(u64, u8),
    Wide(i128),
}

#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
pub enum Mode {
    Real = 0,
    Protected = 3,
    Long = 200,
}

pub struct Ring<T, const N: usize> {
    slots: [T; N],
    next: usize,
}

impl<T: Copy, const N: usize> Ring<T, N> {
    fn push(&mut self, value: T) {
        self.slots[self.next] = value;
        self.next = (self.next + 1) % N;
    }
}

pub trait Device {
    fn tick(&mut self, by: i32) -> i64;
}

pub struct Counter<'a> {
    count: i64,
    mode: Mode,
    name: &'a str,
    last: Option<&'a Exit>,
    history: Ring<i32, 4>,
    pair: (u8, char),
}

impl Device for Counter<'_> {
    #[inline(never)]
    fn tick(&mut self, by: i32) -> i64 {
        let before = self.count;
        self.count += i64::from(by) * 3;
        if self.mode != Mode::Real {
            self.history.push((self.count - before) as i32);
        }
        self.count
    }
}

pub static mut TOTAL: i64 = 5;
static NAMES: [&str; 3] = ["first", "second", "third"];

#[inline(never)]
fn weigh(exits: &[Exit], scale: f32) -> Option<u64> {
    let mut sum = 0u64;
    for exit in exits {
        let weight = match *exit {
            Exit::Halted => 1,
            Exit::Port { number, out } => u64::from(number) + u64::from(out),
            Exit::Memory(address, size) => address ^ u64::from(size),
            Exit::Wide(value) => value as u64,
        };
        sum = sum.wrapping_add(weight);
    }
    let scaled = scale * sum as f32;
    if scaled > 1e6 { None } else { Some(sum) }
}

#[inline(never)]
fn largest<T: Copy + PartialOrd>(items: &[T], otherwise: T) -> T {
    let mut best = otherwise;
    for item in items {
        if *item > best {
            best = *item;
        }
    }
    best
}

mod inner {
    pub fn mix(a: u64, b: u64) -> u64 {
        let x = a ^ (b << 7);
        x.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

fn run(rounds: usize) -> i64 {
    let exits = [Exit::Halted, Exit::Port { number: 0x3f8, out: true }, Exit::Memory(0x1000, 8), Exit::Wide(-5)];
    let mut device = Counter {
        count: 0,
        mode: Mode::Protected,
        name: NAMES[0],
        last: None,
        history: Ring { slots: [0; 4], next: 0 },
        pair: (7, 'x'),
    };
    let mut result = 0i64;
    for round in 0..rounds {
        let some = &exits[..1 + round % exits.len()];
        let found = weigh(some, round as f32 * 0.5);
        let twice = |value: i64| value * 2 + result % 3;
        device.last = if round % 3 == 0 { None } else { exits.get(round % 4) };
        device.name = NAMES[round % 3];
        device.pair.0 = device.pair.0.wrapping_add(round as u8);
        device.mode = if round % 5 == 4 { Mode::Long } else { Mode::Real };
        let ticked = device.tick(found.unwrap_or(3) as i32 & 15);
        let most = largest(&device.history.slots, -1);
        result = twice(ticked) ^ i64::from(most);
        result ^= inner::mix(result as u64, round as u64) as i64 & 0xff;
        let dynamic: &mut dyn Device = &mut device;
        result += black_box(dynamic).tick(1);
    }
    result
}

#[unsafe(no_mangle)]
pub extern "C" fn main() -> i32 {
    let result = run(40);
    unsafe { TOTAL += result };
    result as i32
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The core library is compiled for programs that unwind.
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}

/// Rust expects this of the platform.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(target: *mut u8, value: i32, count: usize) -> *mut u8 {
    for index in 0..count {
        unsafe { target.add(index).write_volatile(value as u8) };
    }
    target
}
