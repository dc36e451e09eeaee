-- Winning bids. Of each auction the highest bid while it was open (from its start to its end, both included), the earliest
-- of equal ones, with all of the auction; auctions without a bid are left out.
SELECT a.id, a.item_name, a.description, a.initial_bid, a.reserve, a.date_time, a.expires, a.seller, a.category, a.extra,
       won.bid.auction, won.bid.bidder, won.bid.price, won.bid.date_time, won.bid.extra
FROM auction a
JOIN (
  SELECT a.id, max_by(b, (b.price, -epoch_us(b.date_time))) AS bid
  FROM auction a, bid b
  WHERE b.auction = a.id AND b.date_time >= a.date_time AND b.date_time <= a.expires
  GROUP BY a.id
) won ON won.id = a.id;
