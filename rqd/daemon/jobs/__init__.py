"""Jobs in and outcomes out: what is claimed, admitted, settled, reported."""
