-- Find last bid. Of each bidder the last bid on each auction; no two are at the same time in these events.
SELECT auction, bidder, price, channel, url, date_time, extra
FROM bid b
WHERE date_time = (SELECT max(date_time) FROM bid l WHERE l.bidder = b.bidder AND l.auction = b.auction);
