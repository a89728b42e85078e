"""Where the emulated MPU-6050 was before there were others; it is in emulator.chips.mpu6050 now."""

from emulator.chips.mpu6050 import MPU_6050, MPU_6500, MPU_9250, MPU_9255, STANDARD_GRAVITY, Mpu6050, Silicon

__all__ = ["MPU_6050", "MPU_6500", "MPU_9250", "MPU_9255", "STANDARD_GRAVITY", "Mpu6050", "Silicon"]
