"""What the shop does in the background."""

import django
from shop.models import Order

if django.VERSION >= (6, 0):
    from django.tasks import task
else:
    from django_tasks import task


@task
def ship(order_id):
    """Ships an order; returns its article."""
    order = Order.objects.get(pk=order_id)
    order.is_shipped = True
    order.save(update_fields=["is_shipped"])
    return order.article


@task(queue_name="mails", takes_context=True)
async def confirm(context, address):
    """Writes to a customer; returns the text."""
    return f"attempt {context.attempt}: a mail to {address}"
