// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Plugs an I2C device of the device tree into an adapter that came up at run time, its interrupt being a GPIO line.
 * A Raspberry Pi needs no such thing: there the overlay places the device below its adapter. An adapter on emulated
 * USB has no place in the tree, and the bus's own `new_device` knows neither interrupt nor device tree.
 *
 *   echo "BUS TYPE ADDRESS GPIOCHIP LINE" > /sys/devices/platform/footfall-dataready/new_device
 *
 * BUS: adapter number; TYPE: name of the node, and id in the driver's table ("mpu6050"); GPIOCHIP: label of the chip;
 * LINE: its line, or -1 where the data-ready pin is not wired.
 */
#include <linux/gpio/consumer.h>
#include <linux/gpio/machine.h>
#include <linux/i2c.h>
#include <linux/interrupt.h>
#include <linux/irq.h>
#include <linux/module.h>
#include <linux/of.h>
#include <linux/platform_device.h>
#include <linux/slab.h>

#define FIRST_FREE_IRQ 32

static struct platform_device *wiring;

static int irq_of_line(const char *chip, unsigned int line)
{
	struct gpiod_lookup_table *table;
	struct gpio_desc *desc;
	int irq, err;

	/* Never freed: GPIO core keeps pointers into it, and this kernel lives for seconds. */
	table = kzalloc(struct_size(table, table, 2), GFP_KERNEL);
	if (!table)
		return -ENOMEM;
	table->dev_id = dev_name(&wiring->dev);
	table->table[0] = GPIO_LOOKUP(kstrdup(chip, GFP_KERNEL), line, "data-ready", GPIO_ACTIVE_HIGH);
	gpiod_add_lookup_table(table);
	desc = gpiod_get(&wiring->dev, "data-ready", GPIOD_IN);
	gpiod_remove_lookup_table(table);
	if (IS_ERR(desc))
		return PTR_ERR(desc);
	irq = gpiod_to_irq(desc);
	if (irq < 0)
		return irq;
	err = irq_set_irq_type(irq, IRQ_TYPE_EDGE_RISING);
	return err ? err : irq;
}

static ssize_t new_device_store(struct device *dev, struct device_attribute *attr, const char *text, size_t size)
{
	struct i2c_board_info info = {};
	struct i2c_adapter *adapter;
	struct i2c_client *client;
	char chip[33];
	int address, line, bus, irq;

	if (sscanf(text, "%d %19s %i %32s %d", &bus, info.type, &address, chip, &line) != 5)
		return -EINVAL;
	info.addr = address;
	if (line >= 0) {
		irq = irq_of_line(chip, line);
		if (irq < 0)
			return irq;
		info.irq = irq;
	}
	info.of_node = of_find_node_by_name(NULL, info.type);
	adapter = i2c_get_adapter(bus);
	if (!adapter)
		return -ENODEV;
	client = i2c_new_client_device(adapter, &info);
	i2c_put_adapter(adapter);
	return IS_ERR(client) ? PTR_ERR(client) : size;
}
static DEVICE_ATTR_WO(new_device);

static int __init footfall_dataready_init(void)
{
	/* User-Mode-Linux claims all of its few interrupt numbers for itself but uses the lowest: these are for the lines. */
	irq_free_descs(FIRST_FREE_IRQ, NR_IRQS - FIRST_FREE_IRQ);
	wiring = platform_device_register_simple("footfall-dataready", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(wiring))
		return PTR_ERR(wiring);
	return device_create_file(&wiring->dev, &dev_attr_new_device);
}
device_initcall(footfall_dataready_init);
MODULE_LICENSE("Dual MIT/GPL");
