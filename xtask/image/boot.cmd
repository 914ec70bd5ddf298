# U-Boot's part of a start: choose a slot, count the attempt, start its kernel.
#
# The partition `env` holds two copies of the environment in libubootenv's redundant form, so that
# `fw_setenv` and RAUC read and write it: 4 KiB each, at 0 and 64 KiB; CRC-32 (little endian), a
# counter of one byte, then the text. The valid copy with the newer counter counts; a change goes
# into the other one, so that one valid copy is always left when the power fails.

setenv copy_0 ${ramdisk_addr_r}
setexpr copy_1 ${ramdisk_addr_r} + 0x10000
setexpr new ${ramdisk_addr_r} + 0x20000
setexpr sum ${ramdisk_addr_r} + 0x30000

setenv BOOT_ORDER
setenv BOOT_a_LEFT
setenv BOOT_b_LEFT

${devtype} dev ${devnum}
part start ${devtype} ${devnum} 2 block_0
setexpr block_1 0x${block_0} + 0x80
${devtype} read ${copy_0} ${block_0} 8
${devtype} read ${copy_1} ${block_1} 8

# A checksum is kept little endian and computed big endian.
setexpr b1 ${sum} + 1; setexpr b2 ${sum} + 2; setexpr b3 ${sum} + 3
setenv valid_0 no
setexpr text_0 ${copy_0} + 5; setexpr c1 ${copy_0} + 1; setexpr c2 ${copy_0} + 2; setexpr c3 ${copy_0} + 3
crc32 ${text_0} 0xffb ${sum}
if itest.b *${copy_0} == *${b3} && itest.b *${c1} == *${b2} && itest.b *${c2} == *${b1} && itest.b *${c3} == *${sum}; then setenv valid_0 yes; fi
setenv valid_1 no
setexpr text_1 ${copy_1} + 5; setexpr c1 ${copy_1} + 1; setexpr c2 ${copy_1} + 2; setexpr c3 ${copy_1} + 3
crc32 ${text_1} 0xffb ${sum}
if itest.b *${copy_1} == *${b3} && itest.b *${c1} == *${b2} && itest.b *${c2} == *${b1} && itest.b *${c3} == *${sum}; then setenv valid_1 yes; fi

setexpr at_0 ${copy_0} + 4; setexpr at_1 ${copy_1} + 4
setexpr.b counter_0 *${at_0}
setexpr.b counter_1 *${at_1}

# Which copy counts: as libubootenv decides.
setenv current none
if test ${valid_0} = yes; then setenv current 0; fi
if test ${valid_1} = yes; then
	if test ${valid_0} = no; then
		setenv current 1
	elif itest 0x${counter_0} == 0xff && itest 0x${counter_1} == 0; then
		setenv current 1
	elif itest 0x${counter_1} == 0xff && itest 0x${counter_0} == 0; then
		setenv current 0
	elif itest 0x${counter_1} > 0x${counter_0}; then
		setenv current 1
	fi
fi

setenv counter ff
setenv target_block ${block_0}
if test ${current} = 0; then
	env import -b ${text_0} 0xffb BOOT_ORDER BOOT_a_LEFT BOOT_b_LEFT
	setenv counter ${counter_0}
	setenv target_block ${block_1}
fi
if test ${current} = 1; then
	env import -b ${text_1} 0xffb BOOT_ORDER BOOT_a_LEFT BOOT_b_LEFT
	setenv counter ${counter_1}
fi
echo "Environment: copy ${current} counts (${valid_0} ${counter_0}, ${valid_1} ${counter_1})"

if test -z "${BOOT_ORDER}"; then setenv BOOT_ORDER "a b"; fi
if test -z "${BOOT_a_LEFT}"; then setenv BOOT_a_LEFT 3; fi
if test -z "${BOOT_b_LEFT}"; then setenv BOOT_b_LEFT 3; fi

setenv slot
for candidate in ${BOOT_ORDER}; do
	if test -z "${slot}"; then
		if test "${candidate}" = a; then
			if itest 0x${BOOT_a_LEFT} > 0; then
				setexpr BOOT_a_LEFT 0x${BOOT_a_LEFT} - 1
				setenv slot a
				setenv boot_part 3
			fi
		elif test "${candidate}" = b; then
			if itest 0x${BOOT_b_LEFT} > 0; then
				setexpr BOOT_b_LEFT 0x${BOOT_b_LEFT} - 1
				setenv slot b
				setenv boot_part 5
			fi
		fi
	fi
done

if test -z "${slot}"; then
	echo "No slot has attempts left: all start again"
	setenv BOOT_ORDER "a b"
	setenv BOOT_a_LEFT 3
	setenv BOOT_b_LEFT 3
fi

mw.b ${new} 0 0x1000
setexpr text ${new} + 5; setexpr at ${new} + 4
setexpr c1 ${new} + 1; setexpr c2 ${new} + 2; setexpr c3 ${new} + 3
env export -b -s 0xffb ${text} BOOT_ORDER BOOT_a_LEFT BOOT_b_LEFT
setexpr.b counter 0x${counter} + 1
mw.b ${at} ${counter} 1
crc32 ${text} 0xffb ${sum}
cp.b ${b3} ${new} 1; cp.b ${b2} ${c1} 1; cp.b ${b1} ${c2} 1; cp.b ${sum} ${c3} 1
${devtype} write ${new} ${target_block} 8

if test -n "${slot}"; then
	echo "Starting slot ${slot} (left: a ${BOOT_a_LEFT}, b ${BOOT_b_LEFT})"
	setenv verity
	if load ${devtype} ${devnum}:${boot_part} ${ramdisk_addr_r} slot.env; then
		env import -t ${ramdisk_addr_r} ${filesize} verity
		if load ${devtype} ${devnum}:${boot_part} ${kernel_addr_r} Image && load ${devtype} ${devnum}:${boot_part} ${ramdisk_addr_r} initrd.img; then
			setenv bootargs "panic=10 quiet loglevel=4 rauc.slot=${slot} spinesight.verity=${verity}"
			booti ${kernel_addr_r} ${ramdisk_addr_r}:${filesize} ${fdt_addr}
		fi
	fi
	echo "Slot ${slot} does not start"
fi
reset
