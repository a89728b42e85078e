"""Every register field of the families against the literal address and mask of the source named beside it.

Kernel: drivers/iio/imu of Linux, file and macro or table entry. ST: ST's own *-pid drivers, structure and bit field.
Bosch: BMI160_SensorAPI (bmi160_defs.h), BMI270_SensorAPI (bmi2_defs.h, bmi270.h). SparkFun: their ICM-20948 library,
ICM_20948_REGISTERS.h. DS: the data sheet's section.
"""

from __future__ import annotations

import numpy as np
import pytest

from edge.imu.chip import FifoFault
from edge.imu.chips import FAMILIES, bmi160, bmi270, bosch, icm20948, icm42688, lsm6ds3, lsm6dsox, lsm9ds1
from edge.imu.chips.core import Part, banks, nearest_rate
from edge.imu.registers import Field

ICM20948 = [
    ("WHO_AM_I", 0x00, 0xFF, 0),  # SparkFun AGB0_REG_WHO_AM_I
    ("USER_FIFO_EN", 0x03, 0x40, 0),  # SparkFun AGB0_REG_USER_CTRL, USER_CTRL_t.FIFO_EN: bit 6
    ("DEVICE_RESET", 0x06, 0x80, 0),  # SparkFun AGB0_REG_PWR_MGMT_1, PWR_MGMT_1_t.DEVICE_RESET: bit 7
    ("SLEEP", 0x06, 0x40, 0),  # PWR_MGMT_1_t.SLEEP: bit 6
    ("CLKSEL", 0x06, 0x07, 0),  # PWR_MGMT_1_t.CLKSEL: bits 2:0
    ("DISABLE_AXES", 0x07, 0x3F, 0),  # SparkFun AGB0_REG_PWR_MGMT_2, DISABLE_GYRO and ACCEL: bits 5:0
    ("TEMP_OUT", 0x39, 0xFF, 0),  # SparkFun AGB0_REG_TEMP_OUT_H
    ("ACCEL_FIFO_EN", 0x67, 0x10, 0),  # SparkFun AGB0_REG_FIFO_EN_2, FIFO_EN_2_t.ACCEL_FIFO_EN: bit 4
    ("GYRO_FIFO_EN", 0x67, 0x0E, 0),  # FIFO_EN_2_t.GYRO_X, Y, Z_FIFO_EN: bits 3:1
    ("TEMP_FIFO_EN", 0x67, 0x01, 0),  # FIFO_EN_2_t.TEMP_FIFO_EN: bit 0
    ("FIFO_RESET", 0x68, 0x1F, 0),  # DS-000189 8.54 FIFO_RST; SparkFun FIFO_RST_t.FIFO_RESET: bits 4:0
    ("FIFO_MODE", 0x69, 0x1F, 0),  # DS-000189 8.55 FIFO_MODE
    ("FIFO_COUNT", 0x70, 0x1F, 0),  # SparkFun AGB0_REG_FIFO_COUNT_H; DS-000189 8.56: bits 4:0
    ("FIFO_R_W", 0x72, 0xFF, 0),  # SparkFun AGB0_REG_FIFO_R_W
    ("USER_BANK", 0x7F, 0x30, 0),  # SparkFun REG_BANK_SEL, REG_BANK_SEL_t.USER_BANK: bits 5:4
    ("GYRO_SMPLRT_DIV", 0x00, 0xFF, 2),  # SparkFun AGB2_REG_GYRO_SMPLRT_DIV
    ("GYRO_DLPFCFG", 0x01, 0x38, 2),  # SparkFun AGB2_REG_GYRO_CONFIG_1, GYRO_DLPFCFG: bits 5:3
    ("GYRO_FS_SEL", 0x01, 0x06, 2),  # GYRO_FS_SEL: bits 2:1
    ("GYRO_FCHOICE", 0x01, 0x01, 2),  # GYRO_FCHOICE: bit 0
    ("ACCEL_SMPLRT_DIV_HIGH", 0x10, 0x0F, 2),  # SparkFun AGB2_REG_ACCEL_SMPLRT_DIV_1: bits 3:0
    ("ACCEL_SMPLRT_DIV_LOW", 0x11, 0xFF, 2),  # SparkFun AGB2_REG_ACCEL_SMPLRT_DIV_2
    ("ACCEL_DLPFCFG", 0x14, 0x38, 2),  # SparkFun AGB2_REG_ACCEL_CONFIG, ACCEL_DLPFCFG: bits 5:3
    ("ACCEL_FS_SEL", 0x14, 0x06, 2),  # ACCEL_FS_SEL: bits 2:1
    ("ACCEL_FCHOICE", 0x14, 0x01, 2),  # ACCEL_FCHOICE: bit 0
]
ICM42688 = [  # kernel inv_icm42600/inv_icm42600.h, INV_ICM42600_REG_* and the masks below each, unless said otherwise
    ("SOFT_RESET", 0x11, 0x01, 0),  # DEVICE_CONFIG, DEVICE_CONFIG_SOFT_RESET
    ("FIFO_MODE", 0x16, 0xC0, 0),  # FIFO_CONFIG_MASK
    ("TEMP_DATA", 0x1D, 0xFF, 0),
    ("FIFO_COUNT", 0x2E, 0xFF, 0),
    ("FIFO_DATA", 0x30, 0xFF, 0),
    ("FIFO_FLUSH", 0x4B, 0x02, 0),  # SIGNAL_PATH_RESET_FIFO_FLUSH
    ("AFSR", 0x4D, 0xC0, 0),  # ArduPilot pull request 25332: bits 7:6 of INTF_CONFIG1, 01 is off
    ("PWR_MGMT0", 0x4E, 0xFF, 0),
    ("TEMP_DIS", 0x4E, 0x20, 0),  # PWR_MGMT0_TEMP_DIS
    ("GYRO_MODE", 0x4E, 0x0C, 0),  # PWR_MGMT0_GYRO
    ("ACCEL_MODE", 0x4E, 0x03, 0),  # PWR_MGMT0_ACCEL
    ("GYRO_FS_SEL", 0x4F, 0xE0, 0),  # GYRO_CONFIG0_FS
    ("GYRO_ODR", 0x4F, 0x0F, 0),  # GYRO_CONFIG0_ODR
    ("ACCEL_FS_SEL", 0x50, 0xE0, 0),  # ACCEL_CONFIG0_FS
    ("ACCEL_ODR", 0x50, 0x0F, 0),  # ACCEL_CONFIG0_ODR
    ("ACCEL_UI_FILT_BW", 0x52, 0xF0, 0),  # GYRO_ACCEL_CONFIG0_ACCEL_FILT
    ("GYRO_UI_FILT_BW", 0x52, 0x0F, 0),  # GYRO_ACCEL_CONFIG0_GYRO_FILT
    ("FIFO_TEMP_EN", 0x5F, 0x04, 0),  # FIFO_CONFIG1_TEMP_EN
    ("FIFO_GYRO_EN", 0x5F, 0x02, 0),  # FIFO_CONFIG1_GYRO_EN
    ("FIFO_ACCEL_EN", 0x5F, 0x01, 0),  # FIFO_CONFIG1_ACCEL_EN
    ("WHO_AM_I", 0x75, 0xFF, 0),  # WHOAMI
    ("BANK_SEL", 0x76, 0x07, 0),  # BANK_SEL_MASK
    (
        "HEADER_CONTENT",
        0x00,
        0xF0,
        0,
    ),  # inv_icm42600_buffer.c FIFO_HEADER_MSG, ACCEL, GYRO; DS-000347 6.2: bit 4
]
LSM6DS3 = [  # ST lsm6ds3_reg.h, lsm6ds3tr-c_reg.h
    ("FUNC_CFG_EN", 0x01, 0x80, 0),  # func_cfg_access_t.func_cfg_en
    ("FIFO_CTRL3", 0x08, 0xFF, 0),
    ("DEC_FIFO_GYRO", 0x08, 0x38, 0),  # fifo_ctrl3_t.dec_fifo_gyro; kernel decimator[ID_GYRO]
    ("DEC_FIFO_XL", 0x08, 0x07, 0),  # fifo_ctrl3_t.dec_fifo_xl; kernel decimator[ID_ACC]
    ("ODR_FIFO", 0x0A, 0x78, 0),  # fifo_ctrl5_t.odr_fifo; kernel ST_LSM6DSX_FIFO_ODR_MASK
    ("FIFO_MODE", 0x0A, 0x07, 0),  # fifo_ctrl5_t.fifo_mode; kernel ST_LSM6DSX_FIFO_MODE_MASK
    ("WHO_AM_I", 0x0F, 0xFF, 0),  # kernel ST_LSM6DSX_REG_WHOAMI_ADDR
    ("ODR_XL", 0x10, 0xF0, 0),  # kernel odr_table[ID_ACC]
    ("FS_XL", 0x10, 0x0C, 0),  # kernel fs_table[ID_ACC]
    ("LPF1_BW_SEL", 0x10, 0x02, 0),  # lsm6ds3tr_c_ctrl1_xl_t.lpf1_bw_sel
    ("ODR_G", 0x11, 0xF0, 0),  # kernel odr_table[ID_GYRO]
    ("FS_G", 0x11, 0x0C, 0),  # kernel fs_table[ID_GYRO]
    ("BDU", 0x12, 0x40, 0),  # kernel bdu
    ("IF_INC", 0x12, 0x04, 0),  # ctrl3_c_t.if_inc
    ("SW_RESET", 0x12, 0x01, 0),  # kernel reset
    ("XL_BW_SCAL_ODR", 0x13, 0x80, 0),  # lsm6ds3_ctrl4_c_t.xl_bw_scal_odr
    ("AXES_G", 0x19, 0x38, 0),  # lsm6ds3_ctrl10_c_t.xen_g, yen_g, zen_g
    ("PEDO_EN_TRC", 0x19, 0x10, 0),  # lsm6ds3tr_c_ctrl10_c_t.pedo_en
    ("FUNC_EN", 0x19, 0x04, 0),  # ctrl10_c_t.func_en
    ("FIFO_STATUS", 0x3A, 0xFF, 0),  # fifo_status1_t; kernel fifo_diff
    ("DIFF_FIFO_HIGH", 0x3B, 0x0F, 0),  # lsm6ds3_fifo_status2_t.diff_fifo; kernel fifo_diff 11:0
    ("FIFO_OVER_RUN", 0x3B, 0x40, 0),  # fifo_status2_t.fifo_over_run
    ("FIFO_EMPTY", 0x3B, 0x10, 0),  # fifo_status2_t.fifo_empty; kernel ST_LSM6DSX_FIFO_EMPTY_MASK, bit 12
    ("FIFO_PATTERN_HIGH", 0x3D, 0x03, 0),  # fifo_status4_t.fifo_pattern
    ("FIFO_DATA_OUT", 0x3E, 0xFF, 0),  # kernel ST_LSM6DSX_REG_FIFO_OUTL_ADDR
    ("STEP_COUNTER", 0x4B, 0xFF, 0),  # LSM6DS3_STEP_COUNTER_L
    ("PEDO_EN", 0x58, 0x40, 0),  # lsm6ds3_tap_cfg_t.pedo_en
]
LSM6DSOX = [  # ST lsm6dsox_reg.h
    ("FUNC_CFG_ACCESS", 0x01, 0x80, 0),  # func_cfg_access_t.reg_access, upper bit
    ("REG_ACCESS", 0x01, 0xC0, 0),  # func_cfg_access_t.reg_access
    ("BDR_GY", 0x09, 0xF0, 0),  # fifo_ctrl3_t.bdr_gy
    ("BDR_XL", 0x09, 0x0F, 0),  # fifo_ctrl3_t.bdr_xl
    ("FIFO_MODE", 0x0A, 0x07, 0),  # fifo_ctrl4_t.fifo_mode; kernel ST_LSM6DSX_FIFO_MODE_MASK
    ("WHO_AM_I", 0x0F, 0xFF, 0),  # kernel ST_LSM6DSX_REG_WHOAMI_ADDR
    ("ODR_XL", 0x10, 0xF0, 0),  # kernel odr_table[ID_ACC]
    ("FS_XL", 0x10, 0x0C, 0),  # kernel fs_table[ID_ACC]
    ("LPF2_XL_EN", 0x10, 0x02, 0),  # ctrl1_xl_t.lpf2_xl_en
    ("ODR_G", 0x11, 0xF0, 0),  # kernel odr_table[ID_GYRO]
    ("FS_G", 0x11, 0x0C, 0),  # kernel fs_table[ID_GYRO]
    ("BDU", 0x12, 0x40, 0),  # kernel bdu
    ("IF_INC", 0x12, 0x04, 0),  # ctrl3_c_t.if_inc
    ("SW_RESET", 0x12, 0x01, 0),  # kernel reset
    ("HPCF_XL", 0x17, 0xE0, 0),  # ctrl8_xl_t.hpcf_xl
    ("DEN_AXES", 0x18, 0xE0, 0),  # ctrl9_xl_t.den_x, den_y, den_z
    ("I3C_DISABLE", 0x18, 0x02, 0),  # ctrl9_xl_t.i3c_disable
    ("FIFO_STATUS", 0x3A, 0xFF, 0),  # fifo_status1_t
    ("DIFF_FIFO_HIGH", 0x3B, 0x03, 0),  # fifo_status2_t.diff_fifo
    ("FIFO_OVR", 0x3B, 0x40, 0),  # fifo_status2_t.fifo_ovr_ia
    ("OVER_RUN_LATCHED", 0x3B, 0x08, 0),  # fifo_status2_t.over_run_latched
    ("FREQ_FINE", 0x63, 0xFF, 0),  # internal_freq_fine_t; kernel freq_fine
    ("FIFO_DATA_OUT", 0x78, 0xFF, 0),  # kernel ST_LSM6DSX_REG_FIFO_OUT_TAG_ADDR
    ("PEDO_EN", 0x04, 0x08, 1),  # emb_func_en_a_t.pedo_en
    ("STEP_COUNTER", 0x62, 0xFF, 1),  # LSM6DSOX_STEP_COUNTER_L
    ("PEDO_RST_STEP", 0x64, 0x80, 1),  # emb_func_src_t.pedo_rst_step
    ("STEP_DET_INIT", 0x66, 0x08, 1),  # emb_func_init_a_t.step_det_init
    ("TAG_SENSOR", 0x78, 0xF8, 0),  # fifo_data_out_tag_t.tag_sensor
    ("TAG_CNT", 0x78, 0x06, 0),  # fifo_data_out_tag_t.tag_cnt
]
BOSCH = [
    ("CMD", 0x7E, 0xFF, 0),  # BMI160_COMMAND_REG_ADDR, BMI2_CMD_REG_ADDR
    ("HEADER_KIND", 0x00, 0xFC, 0),  # BMI160_FIFO_TAG_INTR_MASK
]
BMI160 = [  # Bosch bmi160_defs.h, BMI160_*
    ("CHIP_ID", 0x00, 0xFF, 0),  # CHIP_ID_ADDR
    ("PMU_STATUS", 0x03, 0xFF, 0),  # PMU_STATUS_ADDR
    ("ACC_PMU_STATUS", 0x03, 0x30, 0),  # ACCEL_POWER_MODE_MSK
    ("GYR_PMU_STATUS", 0x03, 0x0C, 0),  # GYRO_POWER_MODE_MSK
    ("FIFO_LENGTH", 0x23, 0x07, 0),  # FIFO_LENGTH_ADDR + 1, FIFO_BYTE_COUNTER_MASK
    ("FIFO_DATA", 0x24, 0xFF, 0),  # FIFO_DATA_ADDR
    ("ACC_UNDERSAMPLING", 0x40, 0x80, 0),  # ACCEL_CONFIG_ADDR, ACCEL_UNDERSAMPLING_MASK
    ("ACC_BW", 0x40, 0x70, 0),  # ACCEL_BW_MASK
    ("ACC_ODR", 0x40, 0x0F, 0),  # ACCEL_ODR_MASK
    ("ACC_RANGE", 0x41, 0x0F, 0),  # ACCEL_RANGE_ADDR, ACCEL_RANGE_MASK
    ("GYR_BW", 0x42, 0x30, 0),  # GYRO_CONFIG_ADDR, GYRO_BW_MASK
    ("GYR_ODR", 0x42, 0x0F, 0),  # GYRO_ODR_MASK
    ("GYR_RANGE", 0x43, 0x07, 0),  # GYRO_RANGE_ADDR, GYRO_RANGE_MSK
    ("ACC_FIFO_FILT", 0x45, 0x80, 0),  # FIFO_DOWN_ADDR, ACCEL_FIFO_FILT_EN
    ("GYR_FIFO_FILT", 0x45, 0x08, 0),  # GYRO_FIFO_FILT_EN
    ("FIFO_GYR_EN", 0x47, 0x80, 0),  # FIFO_CONFIG_1_ADDR, FIFO_GYRO
    ("FIFO_ACC_EN", 0x47, 0x40, 0),  # FIFO_ACCEL
    ("FIFO_HEADER_EN", 0x47, 0x10, 0),  # FIFO_HEADER
    ("FIFO_TIME_EN", 0x47, 0x02, 0),  # FIFO_TIME
    ("STEP_CNT", 0x78, 0xFF, 0),  # INT_STEP_CNT_0_ADDR
    ("STEP_CONF_0", 0x7A, 0xFF, 0),  # INT_STEP_CONFIG_0_ADDR
    ("STEP_CONF_1", 0x7B, 0x07, 0),  # INT_STEP_CONFIG_1_ADDR, STEP_MIN_BUF_MASK
    ("STEP_CNT_EN", 0x7B, 0x08, 0),  # STEP_COUNT_EN_BIT_MASK
]
BMI270 = [  # Bosch bmi2_defs.h BMI2_*, kernel bmi270/bmi270_core.c BMI270_*
    ("CHIP_ID", 0x00, 0xFF, 0),  # CHIP_ID_ADDR
    ("STEP_COUNT", 0x1E, 0xFF, 0),  # SC_OUT_0_ADDR
    ("INTERNAL_MESSAGE", 0x21, 0x0F, 0),  # kernel INTERNAL_STATUS_MSG_MSK
    ("FIFO_LENGTH", 0x25, 0x3F, 0),  # FIFO_LENGTH_0_ADDR + 1; DS 5.2.26: 14 bits
    ("FIFO_DATA", 0x26, 0xFF, 0),  # FIFO_DATA_ADDR
    ("FEAT_PAGE", 0x2F, 0x07, 0),  # FEAT_PAGE_ADDR, SWITCH_PAGE_EN_MASK
    ("ACC_FILTER_PERF", 0x40, 0x80, 0),  # ACC_CONF_ADDR, ACC_FILTER_PERF_MODE_MASK
    ("ACC_BWP", 0x40, 0x70, 0),  # ACC_BW_PARAM_MASK
    ("ACC_ODR", 0x40, 0x0F, 0),  # ACC_ODR_MASK
    ("ACC_RANGE", 0x41, 0x03, 0),  # kernel ACC_CONF_RANGE_REG; ACC_RANGE_MASK
    ("GYR_FILTER_PERF", 0x42, 0x80, 0),  # GYR_CONF_ADDR, GYR_FILTER_PERF_MODE_MASK
    ("GYR_NOISE_PERF", 0x42, 0x40, 0),  # GYR_NOISE_PERF_MODE_MASK
    ("GYR_BWP", 0x42, 0x30, 0),  # GYR_BW_PARAM_MASK
    ("GYR_ODR", 0x42, 0x0F, 0),  # GYR_ODR_MASK
    ("GYR_RANGE", 0x43, 0x07, 0),  # kernel GYR_CONF_RANGE_REG; GYR_RANGE_MASK
    ("ACC_FIFO_FILT", 0x45, 0x80, 0),  # FIFO_DOWNS_ADDR; DS 5.2.44
    ("GYR_FIFO_FILT", 0x45, 0x08, 0),
    ("FIFO_TIME_EN", 0x48, 0x02, 0),  # FIFO_CONFIG_0_ADDR, FIFO_TIME_EN
    ("FIFO_STOP_ON_FULL", 0x48, 0x01, 0),  # FIFO_STOP_ON_FULL
    ("FIFO_GYR_EN", 0x49, 0x80, 0),  # FIFO_CONFIG_1_ADDR, FIFO_GYR_EN >> 8
    ("FIFO_ACC_EN", 0x49, 0x40, 0),  # FIFO_ACC_EN >> 8
    ("FIFO_HEADER_EN", 0x49, 0x10, 0),  # FIFO_HEADER_EN >> 8
    ("INIT_CTRL", 0x59, 0x01, 0),  # INIT_CTRL_ADDR, CONF_LOAD_EN_MASK
    ("INIT_ADDR_0", 0x5B, 0x0F, 0),  # INIT_ADDR_0
    ("INIT_ADDR_1", 0x5C, 0xFF, 0),  # INIT_ADDR_1
    ("INIT_DATA", 0x5E, 0xFF, 0),  # INIT_DATA_ADDR
    ("ADV_POWER_SAVE", 0x7C, 0x01, 0),  # PWR_CONF_ADDR, ADV_POW_EN_MASK
    ("TEMP_EN", 0x7D, 0x08, 0),  # PWR_CTRL_ADDR, TEMP_EN_MASK
    ("ACC_EN", 0x7D, 0x04, 0),  # ACC_EN_MASK
    ("GYR_EN", 0x7D, 0x02, 0),  # GYR_EN_MASK
    ("STEP_FEATURES", 0x32, 0xFF, 6),  # FEATURES_REG_ADDR + BMI270_STEP_CNT_4_STRT_ADDR, page 6 (bmi270.c feature_in)
    ("STEP_COUNT_EN", 0x33, 0x10, 6),  # + STEP_COUNT_FEAT_EN_OFFSET, STEP_COUNT_FEAT_EN_MASK
]
LSM9DS1 = [  # ST lsm9ds1_reg.h; kernel: the entry with wai 0x68
    ("WHO_AM_I", 0x0F, 0xFF, 0),
    ("ODR_G", 0x10, 0xE0, 0),  # kernel odr_table[ID_GYRO]
    ("FS_G", 0x10, 0x18, 0),  # kernel fs_table[ID_GYRO]
    ("BW_G", 0x10, 0x03, 0),  # ctrl_reg1_g_t.bw_g
    ("OUT_G", 0x18, 0xFF, 0),  # OUT_X_L_G; kernel st_lsm6ds0_gyro_channels
    ("ODR_XL", 0x20, 0xE0, 0),  # kernel odr_table[ID_ACC]
    ("FS_XL", 0x20, 0x18, 0),  # kernel fs_table[ID_ACC]
    ("BW_SCAL_ODR", 0x20, 0x04, 0),  # ctrl_reg6_xl_t.bw_scal_odr
    ("BW_XL", 0x20, 0x03, 0),  # ctrl_reg6_xl_t.bw_xl
    ("BDU", 0x22, 0x40, 0),  # kernel bdu
    ("IF_ADD_INC", 0x22, 0x04, 0),  # ctrl_reg8_t.if_add_inc
    ("SW_RESET", 0x22, 0x01, 0),  # kernel reset
    ("FIFO_EN", 0x23, 0x02, 0),  # ctrl_reg9_t.fifo_en
    ("FIFO_MODE", 0x2E, 0xE0, 0),  # fifo_ctrl_t.fmode
    ("OVRN", 0x2F, 0x40, 0),  # fifo_src_t.ovrn
    ("FSS", 0x2F, 0x3F, 0),  # fifo_src_t.fss
]
MODULES = [
    (icm20948, ICM20948), (icm42688, ICM42688), (lsm6ds3, LSM6DS3), (lsm6dsox, LSM6DSOX), (bosch, BOSCH),
    (bmi160, BMI160), (bmi270, BMI270), (lsm9ds1, LSM9DS1),
]  # fmt: skip


@pytest.mark.parametrize(("module", "sheet"), MODULES, ids=lambda one: getattr(one, "__name__", ""))
def test_fields_are_where_the_sources_put_them(module: object, sheet: list[tuple[str, int, int, int]]) -> None:
    found = {name: value for name, value in vars(module).items() if isinstance(value, Field)}
    assert found == {name: Field(address, mask, bank) for name, address, mask, bank in sheet}


def settings(part: Part, sampling_rate_hz: float) -> dict[int, dict[int, int]]:
    return banks([*part.setup, *nearest_rate(part.rates, sampling_rate_hz).settings])


@pytest.mark.parametrize(
    ("part", "sampling_rate_hz", "expected"),
    [
        # 1125/11 Hz, DLPF 3 (50.4 Hz), ±1000 °/s, ±8 g; FIFO: accelerometer, gyroscope, temperature
        (
            icm20948.ICM_20948,
            100,
            {
                0: {0x07: 0, 0x67: 0x1F, 0x69: 0},
                2: {0x00: 10, 0x01: 0x1D, 0x10: 0, 0x11: 10, 0x14: 0x1D},
            },
        ),
        # ODR 8 = 100 Hz, ±1000 °/s and ±8 g = 1, UI filter 400 Hz / 10, packet 3
        (icm42688.ICM_42688_P, 100, {0: {0x4F: 0x28, 0x50: 0x28, 0x52: 0x44, 0x5F: 0x07}}),
        # ODR 7 = 200 Hz, UI filter 400 Hz / 5
        (icm42688.ICM_42688_P, 200, {0: {0x4F: 0x27, 0x50: 0x27, 0x52: 0x22, 0x5F: 0x07}}),
        # ODR 4 = 104 Hz, ±8 g = 3, ±1000 °/s = 2, filter by rate, continuous FIFO, functions, axes, pedometer
        (
            lsm6ds3.LSM6DS3,
            100,
            {0: {0x08: 0x09, 0x0A: 0x26, 0x10: 0x4C, 0x11: 0x48, 0x12: 0x44, 0x13: 0, 0x19: 0x3C, 0x58: 0x40}},
        ),
        # ODR 5 = 208 Hz, LPF1 at ODR/4, pedometer in CTRL10_C
        (
            lsm6ds3.LSM6DS3TR_C,
            200,
            {0: {0x08: 0x09, 0x0A: 0x2E, 0x10: 0x5E, 0x11: 0x58, 0x12: 0x44, 0x19: 0x14}},
        ),
        # LPF2 at ODR/4, both batched at 104 Hz, DEN as after reset, I3C off
        (
            lsm6dsox.LSM6DSOX,
            100,
            {0: {0x09: 0x44, 0x0A: 0x06, 0x10: 0x4E, 0x11: 0x48, 0x12: 0x44, 0x17: 0x00, 0x18: 0xE2}},
        ),
        # ODR 8 = 100 Hz, normal filter, ±8 g = 8, ±1000 °/s = 1, header mode, step counter "normal"
        (
            bmi160.BMI160,
            100,
            {0: {0x40: 0x28, 0x41: 0x08, 0x42: 0x28, 0x43: 0x01, 0x45: 0x88, 0x47: 0xD0, 0x7A: 0x15, 0x7B: 0x0B}},
        ),
        # filter and noise performance, normal filter, 200 Hz = 9, ±8 g = 2, all on, power save off
        (
            bmi270.BMI270,
            200,
            {
                0: {
                    0x40: 0xA9, 0x41: 0x02, 0x42: 0xE9, 0x43: 0x01, 0x45: 0x88, 0x48: 0, 0x49: 0xD0, 0x7C: 0,
                    0x7D: 0x0E,
                }
            },
        ),
        # 119 Hz = 3, ±2000 °/s = 3, ±8 g = 3, 31 and 50 Hz, continuous FIFO
        (lsm9ds1.LSM9DS1, 100, {0: {0x10: 0x79, 0x20: 0x7F, 0x22: 0x44, 0x23: 0x02, 0x2E: 0xC0}}),
    ],
    ids=lambda one: one.name if isinstance(one, Part) else "",
)  # fmt: skip
def test_what_is_written(part: Part, sampling_rate_hz: float, expected: dict[int, dict[int, int]]) -> None:
    assert settings(part, sampling_rate_hz) == expected


@pytest.mark.parametrize(
    ("who_am_i", "address", "name", "fifo_bytes"),
    [
        (0xEA, 0x68, "ICM-20948", 512),  # DS-000189 8.1, 4.19
        (0x47, 0x68, "ICM-42688-P", 2048),  # DS-000347 14.54; kernel FIFO_WATERMARK_MAX
        (0x69, 0x6A, "LSM6DS3", 8192),  # kernel wai, max_fifo_size 1365 sets of 6 bytes
        (0x6A, 0x6A, "LSM6DS3TR-C", 4096),  # kernel wai, max_fifo_size 682
        (0x6C, 0x6A, "LSM6DSOX", 3584),  # kernel wai, max_fifo_size 512 words; ST_LSM6DSX_TAGGED_SAMPLE_SIZE 7
        (0x6B, 0x6A, "ISM330DHCX", 3584),
        (0xD1, 0x68, "BMI160", 1024),  # BMI160_CHIP_ID
        (0x24, 0x68, "BMI270", 2048),  # BMI270_CHIP_ID
        (0x68, 0x6A, "LSM9DS1", 384),  # kernel wai, max_fifo_size 32
        (0x68, 0x68, "MPU-6050", 1024),  # the same number at InvenSense's address
    ],
)
def test_identity(who_am_i: int, address: int, name: str, fifo_bytes: int) -> None:
    parts = [part for family in FAMILIES if address in family.addresses if (part := family.part_of(who_am_i))]
    assert [(part.name, part.fifo_bytes) for part in parts] == [(name, fifo_bytes)]


@pytest.mark.parametrize("part", [part for family in FAMILIES for part in family.parts], ids=lambda part: part.name)
def test_no_rate_aliases_and_the_usual_ones_are_near(part: Part) -> None:
    assert all(rate.low_pass_hz <= rate.odr_hz / 2 for rate in part.rates)
    assert all(
        rate.odr_hz == pytest.approx(wanted, rel=0.2)
        for wanted in (100, 200)
        for rate in [nearest_rate(part.rates, wanted)]
    )
    assert [rate.odr_hz for rate in part.rates] == sorted(rate.odr_hz for rate in part.rates)


@pytest.mark.parametrize("name", ["LSM6DSOX", "BMI160", "ICM-42688-P"])
def test_tagged_frames_out_of_step_are_recognised(name: str) -> None:
    """Whatever the shift, as long as the sensor moves."""
    family, part = next((f, p) for f in FAMILIES for p in f.parts if p.name == name)
    chip = family.chip(None, family.addresses[0], part)  # type: ignore[arg-type]  # nothing is read here
    numbers = np.random.default_rng(3).integers(0, 256, (40, 12), np.uint8)
    if name == "LSM6DSOX":
        rows = [
            bytes([sensor << 3 | (slot & 3) << 1, *row[first : first + 6]])
            for slot, row in enumerate(numbers.tolist())
            for sensor, first in ((1, 0), (2, 6))
        ]
    elif name == "BMI160":
        rows = [bytes([0x8C, *row]) for row in numbers.tolist()]
    else:
        rows = [bytes([0x68, *row, 0, slot, 0]) for slot, row in enumerate(numbers.tolist())]
    data = b"".join(rows)
    assert len(chip.decode(data).imu) == 40
    for shift in range(1, chip.frame_bytes):
        with pytest.raises(FifoFault):
            chip.decode(data[shift : len(data) - chip.frame_bytes + shift])


def test_a_skip_frame_is_an_overflow() -> None:
    chip = bmi160.Bmi160(None, 0x68, bmi160.BMI160)  # type: ignore[arg-type]  # nothing is read here
    with pytest.raises(FifoFault, match="overflow"):
        chip.decode(bytes([0x40, 0x05]) + bytes(24))
