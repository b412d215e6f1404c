"""Takes an order, and shows how far it is."""

from django.db import transaction
from django.http import JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from shop.models import Order
from shop.tasks import confirm, ship


@csrf_exempt
@require_POST
def buy(request):
    """Takes an order. Its task is on the queue once the order is in the database."""
    with transaction.atomic():
        order = Order.objects.create(article=request.POST["article"])
        order.task_id = ship.enqueue(order.pk).id
        order.save(update_fields=["task_id"])
    if "address" in request.POST:
        confirm.using(priority=10, retry=5).enqueue(request.POST["address"])
    return JsonResponse({"order": order.pk}, status=201)


def show(request, number):
    """Shows an order, with the state of its task."""
    order = get_object_or_404(Order, pk=number)
    result = ship.get_result(order.task_id)
    return JsonResponse({"is_shipped": order.is_shipped, "task": result.status})
