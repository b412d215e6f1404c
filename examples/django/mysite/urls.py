"""The pages: the shop, and the admin with rqd's dashboard in it."""

from django.contrib import admin
from django.urls import path

import shop.views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("orders", shop.views.buy),
    path("orders/<int:number>", shop.views.show),
]
