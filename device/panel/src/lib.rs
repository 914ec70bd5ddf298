//! The panel beside the X-ray unit: lamps, buzzer, button and display.
#![no_std]
