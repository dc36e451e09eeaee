-- Every bid with the row of a bounded table.
SELECT b.auction, b.bidder, b.price, b.date_time, s.value
FROM bid b JOIN side s ON b.auction % 10000 = s.key
